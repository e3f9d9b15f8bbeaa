"""The CPU-sized twin of fcn_r50_cityscapes: ResNet-18 and small crops, on any folder of images
with PNG label maps.

    densessl finetune downstream/fcn_r18_folder --backbone backbone.pth --data-root DIR
    densessl finetune downstream/fcn_r18_folder --backbone random --data-root DIR --fraction 0.1 \
        --cfg-options labels.ignore=11 train_cfg.max_iters=600

Data      DIR/images/{train,val}/NAME.jpg (or .png, .tif …) and DIR/labels/{train,val}/NAME.png, one
          channel of class ids. Class names are those of DIR/classes.json ({"classes": [...]}) if it
          is there, else the classes are the ids that occur.
Cost      300 iterations × 4 crops of 128², about 0.2 s each on a CPU core: one minute, and the
          evaluation.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'mmseg::_base_/default_runtime.py'

labels = dict(
    ignore=255,                    # id, or list of ids, of pixels without a label
    map=[],                        # [[id in the files, id meant], …]; [[255, 1]]: masks of 0, 255
)

norm = dict(type='BN', requires_grad=True)
crop = (128, 128)
short_side = 160                   # pixels, before the random scale and in evaluation
any_long_side = 100 * short_side   # mmcv's scale is (long side at most, short side at most)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        strides=(1, 2, 2, 1),      # conv5: stride 1 …
        dilations=(1, 1, 1, 2),    # … and dilation 2, so the output stride is 16
        norm_cfg=norm,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=512,
        in_index=3,
        channels=128,
        num_convs=2,
        dilation=2,                # not 6: a crop has 8 × 8 cells here, not 48 × 48
        concat_input=False,
        dropout_ratio=0,
        num_classes=2,             # replaced by what the data has
        norm_cfg=norm,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
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
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='LabelFolder', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='LabelFolder', pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

iterations = 300
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 7 // 10, iterations * 9 // 10]),   # × 0.1 at 70 % and 90 %
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iterations),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
