"""Relative location, ResNet-50, 70 epochs of ImageNet.

Doersch et al. 2015, Unsupervised Visual Representation Learning by Context Prediction
    https://arxiv.org/abs/1505.05192

    torchrun --nproc_per_node 8 tools/train.py configs/relative_location_r50.py \
        --data /data/imagenet/train --launcher pytorch

The paper trains an AlexNet-like network; this is the ResNet-50 recipe of open-mmlab/mmselfsup
(relative-loc_resnet50_8xb64-steplr-70e), with each patch standardized as in
google/revisiting-self-supervised (model.standardize=False leaves that out).

Cost      70 epochs × 1 281 167 images × 9 patches of 64 px, together as many pixels as 73 % of a
          view of 224 px. 512 = 8 GPUs × 64.
Expected  mmselfsup reports for its recipe: ImageNet linear top-1 39.65; VOC07+12 detection 79.70
          AP50; COCO 37.5 box / 33.7 mask AP (Mask R-CNN FPN 1×); VOC12 segmentation 63.49 mIoU.
          Not reproduced by this project.
Differs from the release (mmselfsup's)
          Images keep their shape: the short side becomes 292, where mmselfsup 1.x squashes the
          image to 292 × 292. The head starts from PyTorch's weights, not from a normal of std
          0.005 (classes) and 0.01, and its batch norm averages over 10 steps, not over 333.
          The warm-up starts at 0, there at a tenth of the rate. Patches are standardized
          (model.standardize), and the middle one is encoded once for its eight pairs.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

views = [dict(
    resize=292,                # short side
    patch=64, grid=3, shift=21, gap=0,   # crop of 3 · (64 + 21) = 255: a cell of 85 for each patch
    gray=0.66)]                # against chromatic aberration

model = dict(
    type='relative_location',
    backbone=dict(type='torchvision.resnet50'),
    hidden=4096,               # 2 · 2048 → 4096 → BN → ReLU → dropout → 8
    dropout=0.5)

epochs = 70
global_batch = 512             # × 8 pairs
schedule = dict(
    type='step', milestones=(30 / 70, 50 / 70), gamma=0.1, by_epoch=False,
    base_lr=0.2, reference_batch=512, warmup_epochs=5)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(classifier=dict(decay_mult=5.0))))   # the head: 5e-4
sync_bn = False
recipe = {70: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
