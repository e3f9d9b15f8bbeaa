"""The CPU-sized twin of faster_rcnn_c4_r50_voc: ResNet-18 and images of at most 160 pixels, on any
data laid out as a VOCdevkit.

    densessl finetune downstream/faster_rcnn_c4_r18_voc --backbone backbone.pth --data-root DIR

Data      DIR/VOC2007/ and DIR/VOC2012/, each with Annotations/, ImageSets/Main/ and JPEGImages/.
          The classes are VOC's, or those of the annotations where these name others.
Cost      300 iterations × 4 images, about 0.7 s each on a CPU core.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'faster_rcnn_c4_r50_voc.py'

side = (160, 160)                  # pixels at most, either way

model = dict(
    backbone=dict(depth=18),
    rpn_head=dict(
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(scales=[1, 2, 4, 8]),        # 16 … 128 pixels
    ),
    roi_head=dict(
        shared_head=dict(depth=18),
        bbox_roi_extractor=dict(
            out_channels=256,
            roi_layer=dict(output_size=8),                 # cells, 4 × 4 after res5
        ),
        bbox_head=dict(in_channels=512, roi_feat_size=4),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=16)),   # res5 runs on each of them: most of the cost
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(max_per_img=50),
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
    dict(type='LoadAnnotations', with_bbox=True),          # after Resize: boxes stay as they are
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
year = dict(type='VOCDataset', data_root='data/VOCdevkit', pipeline=train_pipeline,
            filter_cfg=dict(filter_empty_gt=True, min_size=32))
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    dataset=dict(datasets=[
        dict(ann_file='VOC2007/ImageSets/Main/trainval.txt',
             data_prefix=dict(sub_data_root='VOC2007/'), **year),
        dict(ann_file='VOC2012/ImageSets/Main/trainval.txt',
             data_prefix=dict(sub_data_root='VOC2012/'), **year),
    ]),
)
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
         milestones=[iterations * 3 // 4, iterations * 11 // 12]),   # × 0.1, as the long run does
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=iterations))
