"""The CPU-sized twin of panoptic_fpn_r50_coco: Mask R-CNN's twin with a semantic head, on any data
laid out as COCO's panoptic part is.

    densessl finetune downstream/panoptic_fpn_r18_coco --backbone backbone.pth --data-root DIR

Data      DIR/annotations/panoptic_{train,val}.json, DIR/annotations/panoptic_{train,val}/ with the
          PNG maps, DIR/images/train/ and DIR/images/val/ (or COCO's own names). The built-in sample
          is laid out so.
Cost      300 iterations × 4 images, about 0.6 s each on a CPU core.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'mask_rcnn_r18_coco.py'

side = (160, 160)                  # pixels at most, either way

model = dict(
    type='PanopticFPN',
    data_preprocessor=dict(pad_seg=True, seg_pad_value=255),
    roi_head=dict(mask_head=dict(class_agnostic=True)),
    semantic_head=dict(
        type='PanopticFPNHead',
        num_things_classes=80,     # both replaced by what the data has
        num_stuff_classes=53,
        in_channels=64,
        inner_channels=64,
        start_level=0,
        end_level=4,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(
        type='HeuristicFusionHead',
        num_things_classes=80,
        num_stuff_classes=53,
    ),
    test_cfg=dict(
        rcnn=dict(
            score_thr=0.3,         # not 0.6: scores are low after so short a training
            nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True),
        ),
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=64),   # pixels; an image has 160²
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations'),
    dict(type='Resize', scale=side, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=side, keep_ratio=True),
    dict(type='LoadPanopticAnnotations'),                  # after Resize: scored at its own size
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoPanopticMetric')
test_evaluator = val_evaluator
