"""The CPU-sized twin of fcos_r50_fpn_coco: ResNet-18, a narrow head and images of at most 160
pixels, on any data laid out as COCO is. Boxes only.

    densessl finetune downstream/fcos_r18_coco --backbone backbone.pth --data-root DIR

Data      as for mask_rcnn_r18_coco
Cost      300 iterations × 4 images, about 0.25 s each on a CPU core.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'retinanet_r18_coco.py'   # its data and schedule; the detector is another

norm = dict(type='BN', requires_grad=True)

model = dict(
    _delete_=True,
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='ResNet', depth=18, norm_cfg=norm, norm_eval=False),
    neck=dict(
        type='FPN',
        in_channels=[64, 128, 256, 512],
        out_channels=64,
        start_level=1,
        add_extra_convs='on_output',
        relu_before_extra_convs=True,
        num_outs=4,
        norm_cfg=norm,
    ),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,            # replaced by what the data has
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32, 64],
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 1e8)),   # pixels, half of FCOS's own
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100,
    ),
)
