"""The CPU-sized twin of upernet_r50_cityscapes: fcn_r18_cityscapes with UPerNet's heads.

    densessl finetune downstream/upernet_r18_cityscapes --backbone backbone.pth --data-root DIR

Data      as for fcn_r50_cityscapes
Cost      300 iterations × 4 crops of 128², about 0.3 s each on a CPU core.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'upernet_r50_cityscapes.py'

crop = (128, 128)
short_side = 160                   # pixels, before the random scale and in evaluation
any_long_side = 100 * short_side   # mmcv's scale is (long side at most, short side at most)

model = dict(
    data_preprocessor=dict(size=crop),
    backbone=dict(depth=18),
    decode_head=dict(in_channels=[64, 128, 256, 512], channels=64),
    auxiliary_head=dict(in_channels=256, channels=64),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(any_long_side, short_side), ratio_range=(0.5, 2.0),
         keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(any_long_side, short_side), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after Resize: scored at the label map's own size
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=2, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

iterations = 300
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 7 // 10, iterations * 9 // 10]),   # × 0.1 at 70 % and 90 %
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=iterations))
