"""DetCon-S at the size of a laptop: ResNet-18, 96 px views.

    densessl train demo/detcon_s_r18 --data any/folder/of/images --epochs 10

The method is that of ``detcon_s_r50``; what is smaller is noted beside it.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

# Small images hold small regions.
masks = dict(type='felzenszwalb', scale=100, sigma=0.8, min_size=40)

_view = dict(
    size=96, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.2)
views = [
    dict(**_view, blur=dict(p=1.0, sigma=(0.1, 1.0))),
    dict(**_view, blur=dict(p=0.0, sigma=(0.1, 1.0))),
]

model = dict(
    type='detcon_s',
    backbone=dict(type='torchvision.resnet18', zero_init_residual=True),
    num_regions=16,
    projection=128,            # 512 → 512 → 128
    temperature=0.1)

epochs = 10
global_batch = 32
schedule = dict(type='cosine', base_lr=0.05, reference_batch=32, warmup_epochs=1)
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
    heads_first=0.1, layer_decay=0.7, rate=0.3, freeze=None, follow_norms=True)
