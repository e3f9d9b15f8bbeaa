"""CPC at the size of a laptop: ResNet-18 with layer norm, a 5 × 5 grid of 32 px patches.

    densessl train small/cpc_r18 --data any/folder/of/images --epochs 10

The method is that of ``cpc_r50``; what is smaller is noted beside it.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

views = [dict(
    patch=32, grid=5, shift=0, gap=-16,   # side 5 · 16 + 16 = 96; published 64, 7, −32, 256
    resize=112,                # published 300
    inner=30,                  # published 60
    flip=0.5, gray=1.0)]

model = dict(
    type='cpc',
    backbone=dict(type='torchvision.resnet18', norm='layer'),
    steps=(1, 2, 3),           # published 1 to 5
    directions=1,
    hidden=128,                # published 256
    blocks=3,                  # published 5
    scale=1.0)                 # published 0.1; few steps

epochs = 10
global_batch = 16              # × 25 patches
schedule = dict(type='cosine', base_lr=2e-4, reference_batch=16, warmup_epochs=1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', weight_decay=0.0))
sync_bn = False
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.03, freeze=None, follow_norms=False)
