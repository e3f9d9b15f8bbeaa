"""DetCon-B at the size of a laptop: ResNet-18, 128 px views, for the demo and for trying things.

    densessl train demo/detcon_r18 --data any/folder/of/images --epochs 10

The method is that of ``detcon_r50``; what is smaller is noted beside it.
Cost      about 17 images/s on two cores of an AMD EPYC server, 40 on faster ones.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

# Small images hold small regions.
masks = dict(type='felzenszwalb', scale=200, sigma=0.8, min_size=100)

_view = dict(
    size=128, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.2)
views = [
    dict(**_view, blur=dict(p=1.0, sigma=(0.1, 1.0)), solarize=dict(p=0.0, threshold=0.5)),
    dict(**_view, blur=dict(p=0.1, sigma=(0.1, 1.0)), solarize=dict(p=0.2, threshold=0.5)),
]

model = dict(
    type='detcon',
    backbone=dict(type='torchvision.resnet18'),
    num_regions=16,
    projection=(512, 128),     # published 4096, 256
    temperature=0.1,
    tau_base=0.97,             # few steps: the target must move,
    target_init='copy')        # and from where the online network is

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
    heads_first=0.1, layer_decay=0.7, rate=0.3, freeze=None, follow_norms=True,
    **{'model.tau_base': 0.99})    # the target starts slow
