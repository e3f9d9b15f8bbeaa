"""The CPU-sized twin of retinanet_r50_fpn_coco: ResNet-18, a narrow head and images of at most 160
pixels, on any data laid out as COCO is. Boxes only.

    densessl finetune downstream/retinanet_r18_coco --backbone backbone.pth --data-root DIR

Data      as for mask_rcnn_r18_coco
Cost      300 iterations × 4 images, about 0.25 s each on a CPU core.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'retinanet_r50_fpn_coco.py'

side = (160, 160)                  # pixels at most, either way

model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32, 64]),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=side, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=side, keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

iterations = 300
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-2),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.01, begin=0, end=iterations // 15),
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 2 // 3, iterations * 8 // 9]),   # × 0.1, as the long runs do
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=iterations))
