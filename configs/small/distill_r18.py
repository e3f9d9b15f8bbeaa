"""Distillation into a ResNet-18 of output stride 16 at the size of a laptop: 96 px views.

    densessl train small/distill_r18 --data any/folder/of/images \
        --cfg-options model.teacher=weights.pth

The teacher is any file that `densessl train --init` takes, or TARGET.name for the weights that a
library publishes (docs/continue.md). Features averaged over region masks are compared as well by

    --cfg-options model.type=distill_regions masks.type=felzenszwalb masks.scale=500 \
        masks.sigma=0.8 masks.min_size=400

Cost      400 steps on 1623 photographs and one pass of an EfficientNet-Lite0 over them, 450 s on
          one core of an AMD EPYC.
Expected  45.4 to 47.5 mIoU by the dense probe on CamVid from an EfficientNet-Lite0 with ImageNet's
          labels, three runs; its own maps have 44.6 (stride 32) and 48.3 (stride 16), and the best
          ResNet-18 without a teacher 38.7 after 20 CPU-minutes.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

masks = None                   # only distill_regions uses masks

# One view: teacher and student see the same pixels, and crops need not be large to show the same.
views = [dict(
    size=96, area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05), gray=0.1)]

model = dict(
    type='distill',
    backbone=dict(type='torchvision.resnet18', output_stride=16),
    teacher=None,              # give it
    cached=256,                # it sees each image once, whole, at this short side
    cosine=0.9, l1=0.1)        # weights of the two terms (Theia's code, train_rvfm.py)

epochs = 16
global_batch = 64
schedule = dict(type='cosine', base_lr=2e-3, reference_batch=64, warmup_epochs=0.5)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='AdamW', weight_decay=0.01))
sync_bn = True
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
