"""MoCo v2 at the size of a laptop: ResNet-18, 96 px views.

    densessl train demo/moco_r18 --data any/folder/of/images --epochs 10

The method is that of ``moco_v2_r50``; what is smaller is noted beside it.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

_view = dict(
    size=96, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bilinear', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), gray=0.2,
    blur=dict(p=0.5, sigma=(0.1, 1.0)))
views = [_view, _view]

model = dict(
    type='moco',
    version=2,
    backbone=dict(type='torchvision.resnet18'),
    queue=1024,                # published 65536
    temperature=0.2,
    momentum=0.97,             # few steps: the key encoder must move
    bn_groups=2)               # two groups, between which keys are shuffled

epochs = 10
global_batch = 32
schedule = dict(type='cosine', by_epoch=True, base_lr=0.03, reference_batch=32, warmup_epochs=0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
sync_bn = False                # BN stays a process's own; keys are shuffled between processes
train_dataloader = dict(num_workers=1)
log_interval = 10
checkpoint = dict(every_epochs=5)

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.3, freeze=None, follow_norms=True,
    **{'model.momentum': 0.99})    # the target starts slow
