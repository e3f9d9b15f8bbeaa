"""COCO panoptic segmentation with Panoptic FPN on a ResNet-50: every pixel gets a class, and every
countable object an identity.

Kirillov et al. 2019, Panoptic Feature Pyramid Networks    https://arxiv.org/abs/1901.02446

    densessl finetune downstream/panoptic_fpn_r50_coco --backbone backbone.pth \
        --data-root /data/coco
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/panoptic_fpn_r50_coco.py \
        --backbone backbone.pth --data-root /data/coco --launcher pytorch

Data      annotations/panoptic_{train,val}2017.json, annotations/panoptic_{train,val}2017/ (the PNG
          maps), train2017/ and val2017/; or any data laid out alike, without the year and with
          images/train/ and images/val/. Classes are the categories of the files; those with
          isthing = 1 are counted.
Cost      90 000 iterations × 16 images = about 12.3 passes over train (118 287 images, less those
          without an object)
Expected  No published figure for weights trained without labels. Schedule and normalization are
          those of mask_rcnn_r50_fpn_coco. No run of this size has been made with this project.
Twin      panoptic_fpn_r18_coco
"""
_base_ = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'

norm = dict(type='SyncBN', requires_grad=True)

model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, norm_cfg=norm, init_cfg=None),
    neck=dict(norm_cfg=norm),      # BN in the FPN too; the semantic head has group norm
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations'),
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
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.001, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 2 // 3, iterations * 8 // 9]),   # × 0.1 at 60 000 and 80 000
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=iterations // 9, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
