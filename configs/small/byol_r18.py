"""BYOL at the size of a laptop: ResNet-18 of output stride 16, 64 px views.

    densessl train small/byol_r18 --data any/folder/of/images

The method is that of ``byol_r50``; what is smaller is said beside it.
Cost      540 steps on 1600 photographs, about 20 minutes on one core of an Intel Xeon.
Expected  37.1 mIoU by the dense probe on CamVid (random weights 21.7), one seed and a BN momentum
          of 0.03; the best of its trials in a search that made as many for each method
          (docs/small.md).
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

_view = dict(
    size=64, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.23, contrast=0.23, saturation=0.23, hue=0.06), gray=0.0,
    blur=dict(p=0.5, sigma=(0.1, 1.0)), solarize=dict(p=0.0, threshold=0.5))
views = [_view, _view]          # published: blur of 1.0 and 0.1, solarization of 0.0 and 0.2

model = dict(
    type='byol',
    backbone=dict(type='torchvision.resnet18', output_stride=16),
    projection=(512, 128),     # published 4096, 256
    tau_base=0.996,
    target_init='copy')        # few steps: the target begins where the online network does

epochs = 21
global_batch = 64
schedule = dict(type='cosine', base_lr=0.06, reference_batch=64, warmup_epochs=0.6)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=2e-4))   # LARS is for large batches
sync_bn = True
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.05, freeze=None, follow_norms=False,
    **{'model.tau_base': 0.999})   # the target starts slower still
