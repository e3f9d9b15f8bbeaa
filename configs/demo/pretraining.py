"""DetCon-S on the demo's drawn scenes: what ``densessl demo`` pretrains.

    densessl train demo/pretraining --data path/to/scenes

The best of 29 trials of DetCon-S and DetCon-B at equal cost: 22.0 mIoU by the dense probe against
10.0 of random weights (one seed). Colors are drawn anew for every scene, so views whose colors
differ much teach textures and outlines. For photographs take ``small/detcon_s_r18``.
Cost      147 steps of 64 scenes, 2 s each on one core of an AMD EPYC.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # the demo gives it

masks = dict(type='felzenszwalb', scale=500, sigma=0.8, min_size=400)

_view = dict(
    size=96, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), gray=0.2,
    blur=dict(p=0.5, sigma=(0.1, 1.0)))
views = [_view, _view]

model = dict(
    type='detcon_s',
    backbone=dict(type='torchvision.resnet18', output_stride=16, zero_init_residual=True),
    num_regions=16,
    hidden=512, projection=128,
    temperature=0.1)

epochs = 10
global_batch = 64
schedule = dict(type='cosine', base_lr=0.06, reference_batch=64, warmup_epochs=1)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))   # LARS is for large batches
sync_bn = True
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)
