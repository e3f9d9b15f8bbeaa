"""MoCo v1, ResNet-50, 200 epochs of ImageNet.

He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning
    https://arxiv.org/abs/1911.05722, released code https://github.com/facebookresearch/moco

    torchrun --nproc_per_node 8 tools/train.py configs/moco_v1_r50.py \
        --data /data/imagenet/train --launcher pytorch

Cost      200 epochs × 1 281 167 images; the key network takes no gradient. 256 = 8 GPUs × 32.
Expected  ImageNet linear top-1 60.6; VOC07+12 detection 81.5 AP50 / 55.9 AP / 62.6 AP75, as
          published. Not reproduced by this project.
Differs from the release
          Views are resized by OpenCV's bilinear filter, which does not smooth what it shrinks;
          PIL's does. Crops of twice the view's size and more are cut from an image decoded at a
          half, a quarter or an eighth (reduced=False in a view: whole).
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

# Color is lost before the jitter, the jitter is always applied; resized bilinearly, as released.
_view = dict(
    size=224, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bilinear', flip=0.5,
    gray=0.2, gray_first=True,
    jitter=dict(p=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4))
views = [_view, _view]

model = dict(
    type='moco',
    version=1,                 # head: Linear 2048 → 128
    backbone=dict(type='torchvision.resnet50'),
    queue=65536,
    temperature=0.07,
    momentum=0.999,
    bn_groups=1)               # 8 on a single process: normalize as 8 GPUs would

epochs = 200
global_batch = 256
schedule = dict(
    type='step', milestones=(120 / 200, 160 / 200), gamma=0.1, by_epoch=True,
    base_lr=0.03, reference_batch=256, warmup_epochs=0)
optim_wrapper = dict(          # weight decay on all parameters, BN and biases too
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
sync_bn = False                # BN stays a process's own; keys are shuffled between processes
recipe = {200: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.03, freeze=None, follow_norms=False)
