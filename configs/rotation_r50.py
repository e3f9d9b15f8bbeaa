"""Rotation prediction, ResNet-50, 105 epochs of ImageNet.

Gidaris et al. 2018, Unsupervised Representation Learning by Predicting Image Rotations
    https://arxiv.org/abs/1803.07728, released code https://github.com/gidariss/FeatureLearningRotNet

    torchrun --nproc_per_node 8 tools/train.py configs/rotation_r50.py \
        --data /data/imagenet/train --launcher pytorch            # --epochs 70: the short recipe

The release trains an AlexNet for 50 epochs; views, loss, optimizer and weight decay here are its.
Rate and schedules are those of ResNet-50 elsewhere: 105 epochs as in facebookresearch/vissl
(rotnet_8gpu_resnet), 70 as in open-mmlab/mmselfsup (rotation-pred_resnet50_8xb16-steplr-70e).

Cost      105 epochs × 1 281 167 images × 4 rotations of 224 px. 128 = 8 GPUs × 16 images.
Expected  no figure is known for exactly this recipe. mmselfsup reports for its 70 epochs, which
          decay weights by 1e-4 and use no Nesterov momentum: ImageNet linear top-1 44.35,
          VOC07+12 detection 79.67 AP50, VOC12 segmentation 64.31 mIoU.
          Not reproduced by this project.
Differs from the release
          The network, and with it rate, batch and schedule: the release takes 192 images a step,
          for 50 epochs. vissl and mmselfsup decay weights by 1e-4 without Nesterov momentum, and
          vissl turns images before it crops them. Views are resized by OpenCV's bilinear filter,
          which does not smooth what it shrinks; PIL's does. Crops of twice the view's size and
          more are cut from an image decoded at a half, a quarter or an eighth (reduced=False in a
          view: whole).
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

# Cropped and flipped first, then turned: nothing that follows the turn betrays it.
views = [dict(size=224, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bilinear', flip=0.5)]

model = dict(
    type='rotation',           # head: Linear 2048 → 4
    backbone=dict(type='torchvision.resnet50'))

epochs = 105
global_batch = 128             # images; × 4 rotations = 512 that are encoded
schedule = dict(
    type='step', milestones=(30 / 105, 60 / 105, 90 / 105, 100 / 105), gamma=0.1, by_epoch=True,
    base_lr=0.1,               # for 256 encoded images, 64 that are read: rate = 0.1 · 128 / 64
    reference_batch=64,
    warmup_epochs=0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=5e-4))
sync_bn = False

recipe = {
    70: {'schedule.milestones': (30 / 70, 50 / 70), 'schedule.warmup_epochs': 5},
    105: {'schedule.milestones': (30 / 105, 60 / 105, 90 / 105, 100 / 105),
          'schedule.warmup_epochs': 0},
}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
