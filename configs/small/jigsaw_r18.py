"""Jigsaw at the size of a laptop: ResNet-18, 48 px tiles, 32 permutations.

    densessl train small/jigsaw_r18 --data any/folder/of/images --epochs 10

The method is that of ``jigsaw_r50``; what is smaller is noted beside it.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

views = [dict(
    patch=48, grid=3, shift=16,   # side 3 · (48 + 16) = 192; published 64 and 21, 255
    resize=193,                # published 256
    flip=0.5, gray=0.66)]

model = dict(
    type='jigsaw',
    backbone=dict(type='torchvision.resnet18'),
    permutations=32,           # published 2000
    code=128)                  # published 1000

epochs = 10
global_batch = 32              # × 9 tiles
schedule = dict(type='cosine', base_lr=0.05, reference_batch=32, warmup_epochs=1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
sync_bn = False
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
