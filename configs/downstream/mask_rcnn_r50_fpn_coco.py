"""COCO with Mask R-CNN, FPN and a ResNet-50: the "1×" protocol that compared MoCo, BYOL and DetCon.

He et al. 2020, Momentum Contrast    https://arxiv.org/abs/1911.05722
Hénaff et al. 2021, DetCon           https://arxiv.org/abs/2103.10957

    densessl finetune downstream/mask_rcnn_r50_fpn_coco --backbone backbone.pth \
        --data-root /data/coco
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/mask_rcnn_r50_fpn_coco.py \
        --backbone backbone.pth --data-root /data/coco --launcher pytorch

Data      annotations/instances_{train,val}2017.json, train2017/ and val2017/, or other data laid
          out alike: annotations/instances_{train,val}.json, images/train/ and images/val/. Trained
          on the 117 266 images of train2017 that have objects, scored on the 5000 of val2017.
Cost      90 000 iterations × 16 images = 12.3 passes over train (90 000 · 16 / 117 266); twice
          that is the "2×" protocol: --cfg-options train_cfg.max_iters=180000
Expected  box / mask AP, ResNet-50 pretrained on ImageNet, as reported by Hénaff et al., who
          trained with 64 images an iteration:
              DetCon-B, 1000 epochs   42.7 / 38.2   (their weights in PyTorch: 42.2 / 38.1)
              BYOL, 1000 epochs       41.6 / 37.2
          a third party's DetCon-B of 300 epochs: 41.5 / 38.3.
          Not reproduced by this project: no run of this size has been made with it.

MMDetection's own config freezes the stem, the first stage and all BN statistics, and has no BN in
the FPN: that is made for supervised weights. Users report 27.0 box AP for BYOL's with it.
"""
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

norm = dict(type='SyncBN', requires_grad=True)

model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, norm_cfg=norm, init_cfg=None),
    neck=dict(norm_cfg=norm),      # BN in the FPN too: new layers next to trained BN
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
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
