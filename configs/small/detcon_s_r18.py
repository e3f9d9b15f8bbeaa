"""DetCon-S at the size of a laptop: ResNet-18 of output stride 16, 96 px views.

    densessl train small/detcon_s_r18 --data any/folder/of/images

The method is that of ``detcon_s_r50``; what is smaller is said beside it.
Cost      350 steps on 1600 photographs, about 20 minutes on one core of an Intel Xeon.
Expected  40.3 mIoU by the dense probe on CamVid (random weights 21.7), one seed, the best of its
          trials in a search that made as many for each method (docs/small.md).
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

# Photographs of 224 to 500 pixels; regions of small images take a smaller scale.
masks = dict(type='felzenszwalb', scale=500, sigma=0.8, min_size=400)

_view = dict(
    size=96, area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05), gray=0.1,
    blur=dict(p=0.2, sigma=(0.1, 1.0)))
views = [_view, _view]

model = dict(
    type='detcon_s',
    backbone=dict(type='torchvision.resnet18', output_stride=16),
    num_regions=16,
    hidden=512, projection=256,
    temperature=0.1)

epochs = 14
global_batch = 64
schedule = dict(type='cosine', base_lr=0.06, reference_batch=64, warmup_epochs=0.5)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))   # LARS is for large batches
sync_bn = True
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.01, freeze=None, follow_norms=False)
