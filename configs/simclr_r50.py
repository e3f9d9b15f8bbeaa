"""SimCLR, ResNet-50, 1000 epochs of ImageNet.

Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations
    https://arxiv.org/abs/2002.05709, released code https://github.com/google-research/simclr

    torchrun --nproc_per_node 8 tools/train.py configs/simclr_r50.py \
        --data /data/imagenet/train --launcher pytorch

Cost      1000 epochs × 1 281 167 images, two views of 224 px through one network.
          4096 images a step: their 8190 other views are each anchor's negatives.
Expected  ImageNet linear top-1 69.3 (1000 epochs, batch 4096), 66.6 (200 epochs, batch 8192),
          61.9 (200 epochs, batch 256), as published. Not reproduced by this project.
Wider     --cfg-options model.backbone.width=2 (or 4)
Deeper    --cfg-options model.backbone.type=torchvision.resnet101
Differs from the release
          Images are normalized by ImageNet's mean and std, which the downstream model then uses;
          the release feeds values of 0 to 1. Initial weights are torchvision's and PyTorch's, not
          a truncated normal of variance 1 / fan-in, and 0.01 in the head. Weight decay is that of
          run.py and the paper; the README's newer command has 1e-4 (SimCLR v2). Max-pool pads both
          sides alike. A run has one step less: the release adds one to epochs · images // batch.
          Resized views are rounded to 256 levels; the bicubic filter is that of the release's
          tf2/, which the TF1 code beside it does not have.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

_view = dict(
    style='tensorflow', size=224, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), crop='distorted_box',
    interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2,
                brightness_rule='multiply'), gray=0.2,      # the release's default, simclrv2
    blur=dict(p=0.5, sigma=(0.1, 2.0)))
views = [_view, _view]

model = dict(
    type='simclr',
    backbone=dict(type='torchvision.resnet50', zero_init_residual=True),
    projection=128,            # 2048 → 2048 → 128
    temperature=0.1)           # top-1 of the ablation: .05 59.7, .1 64.4, .5 60.7, 1 58.0

epochs = 1000
global_batch = 4096
schedule = dict(
    type='cosine',
    base_lr=0.3,               # rate = 0.3 · 4096 / 256 = 4.8
    reference_batch=256,
    warmup_epochs=10)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='LARS', momentum=0.9, weight_decay=1e-6, trust=1e-3,
                   lr_in_momentum=True))      # the form of SimCLR's release
sync_bn = True

# The published runs of other lengths differ in epochs and batch alone.
recipe = {100: {}, 200: {}, 1000: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.03, freeze=None, follow_norms=False)
