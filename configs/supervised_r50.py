"""Supervised ImageNet classification, ResNet-50, 90 epochs: the baseline of every comparison.

He et al. 2016, Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385;
the recipe is that of PyTorch's ImageNet example.

    torchrun --nproc_per_node 8 tools/train.py configs/supervised_r50.py \
        --data /data/imagenet/train --launcher pytorch

`--data` holds one folder for each class; the number of classes is found there.

Cost      90 epochs × 1 281 167 images, one view of 224 px.
Expected  not stated here: no figure of this recipe has been measured with this project.
Differs from the release (pytorch/examples, imagenet)
          Views are resized by OpenCV's bilinear filter, which does not smooth what it shrinks;
          PIL's does. Crops of twice the view's size and more are cut from an image decoded at a
          half, a quarter or an eighth (reduced=False in a view: whole).
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

views = [dict(size=224, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bilinear', flip=0.5)]

model = dict(type='supervised', backbone=dict(type='torchvision.resnet50'))

epochs = 90
global_batch = 256
schedule = dict(
    type='step', milestones=(30 / 90, 60 / 90), gamma=0.1, by_epoch=True,
    base_lr=0.1, reference_batch=256, warmup_epochs=0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
sync_bn = False

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
