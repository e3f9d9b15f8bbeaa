"""COCO with FCOS, FPN and a ResNet-50: a detector of one stage without anchors. Boxes only, so
annotations need no masks.

Tian et al. 2019, FCOS: Fully Convolutional One-Stage Object Detection
                                                    https://arxiv.org/abs/1904.01355

    densessl finetune downstream/fcos_r50_fpn_coco --backbone backbone.pth --data-root /data/coco
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/fcos_r50_fpn_coco.py \
        --backbone backbone.pth --data-root /data/coco --launcher pytorch

Data      as for mask_rcnn_r50_fpn_coco
Cost      90 000 iterations × 16 images = 12.3 passes over train (90 000 · 16 / 117 266)
Expected  No published figure for weights trained without labels. Schedule and normalization are
          those of mask_rcnn_r50_fpn_coco, so that backbones can be compared on detectors of any
          kind. No run of this size has been made with this project.
Twin      fcos_r18_coco

MMDetection's own config is made for weights of another kind of ResNet (style='caffe': the strides
are in other convolutions) whose input is BGR and not divided by its deviation.
"""
_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

norm = dict(type='SyncBN', requires_grad=True)

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(frozen_stages=-1, norm_eval=False, norm_cfg=norm, style='pytorch',
                  init_cfg=None),
    neck=dict(norm_cfg=norm),      # BN in the FPN too; the head has group norm of its own
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomChoiceResize', keep_ratio=True,       # short side 640 … 800 pixels
         scales=[(1333, side) for side in range(640, 801, 32)]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=2,                  # a GPU: 16 = 8 GPUs × 2
    num_workers=4,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)

iterations = 90000
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=iterations,
                 val_interval=iterations // 9)
# FCOS's own rate, half of Mask R-CNN's; biases learn twice as fast and do not decay.
optim_wrapper = dict(optimizer=dict(lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='ConstantLR', by_epoch=False, factor=1 / 3, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 2 // 3, iterations * 8 // 9]),   # × 0.1 at 60 000 and 80 000
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=iterations // 9, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
