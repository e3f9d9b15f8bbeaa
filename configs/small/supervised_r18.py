"""Supervised classification at the size of a laptop: ResNet-18, 96 px views.

    densessl train small/supervised_r18 --data any/folder/of/class/folders --epochs 10

The method is that of ``supervised_r50``; what is smaller is noted beside it.
"""
_base_ = ['../_base_/pretrain.py']

data = None                    # give --data

views = [dict(size=96, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bilinear', flip=0.5)]

model = dict(type='supervised', backbone=dict(type='torchvision.resnet18'))

epochs = 10
global_batch = 32
schedule = dict(type='cosine', base_lr=0.02, reference_batch=32, warmup_epochs=1)
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
