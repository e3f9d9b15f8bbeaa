"""MoCo v2, ResNet-50, 200 (or 800) epochs of ImageNet.

Chen et al. 2020, Improved Baselines with Momentum Contrastive Learning
    https://arxiv.org/abs/2003.04297, released code https://github.com/facebookresearch/moco

    torchrun --nproc_per_node 8 tools/train.py configs/moco_v2_r50.py \
        --data /data/imagenet/train --launcher pytorch [--epochs 800]

Cost      200 epochs × 1 281 167 images; the key network takes no gradient. 256 = 8 GPUs × 32.
Expected  ImageNet linear top-1 67.5 (200 epochs), 71.1 (800). VOC07+12 detection AP50/AP/AP75:
          82.4/57.0/63.6 (200), 82.5/57.4/64.0 (800), as published. Not reproduced by this
          project.
Differs from the release
          Views are resized by OpenCV's bilinear filter, which does not smooth what it shrinks;
          PIL's does. Crops of twice the view's size and more are cut from an image decoded at a
          half, a quarter or an eighth (reduced=False in a view: whole). Blur is a Gaussian of
          23 × 23 pixels, PIL's a repeated box filter.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

_view = dict(
    size=224, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bilinear', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), gray=0.2,
    blur=dict(p=0.5, sigma=(0.1, 2.0)))
views = [_view, _view]

model = dict(
    type='moco',
    version=2,                 # head: Linear 2048 → 2048 → ReLU → Linear → 128
    backbone=dict(type='torchvision.resnet50'),
    queue=65536,
    temperature=0.2,
    momentum=0.999,
    bn_groups=1)               # 8 on a single process: normalize as 8 GPUs would

epochs = 200
global_batch = 256
schedule = dict(type='cosine', by_epoch=True, base_lr=0.03, reference_batch=256, warmup_epochs=0)
optim_wrapper = dict(          # weight decay on all parameters, BN and biases too
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
sync_bn = False                # BN stays a process's own; keys are shuffled between processes
recipe = {200: {}, 800: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.03, freeze=None, follow_norms=False)
