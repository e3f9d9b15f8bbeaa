"""Semantic segmentation on Cityscapes with UPerNet on a ResNet-50: a segmentor that reads all
stages of the backbone, where the FCN reads the last.

Xiao et al. 2018, Unified Perceptual Parsing for Scene Understanding
                                                    https://arxiv.org/abs/1807.10221

    densessl finetune downstream/upernet_r50_cityscapes --backbone backbone.pth \
        --data-root /data/cityscapes
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/upernet_r50_cityscapes.py \
        --backbone backbone.pth --data-root /data/cityscapes --launcher pytorch

Data      as for fcn_r50_cityscapes
Cost      90 000 iterations × 16 crops of 769², 484 passes over the images (90 000 · 16 / 2975).
Expected  No published figure for weights trained without labels. Data, schedule and rate are those
          of fcn_r50_cityscapes, so that backbones can be compared on segmentors of either kind.
          No run of this size has been made with this project.
Twin      upernet_r18_cityscapes
"""
_base_ = 'mmseg::upernet/upernet_r50_4xb2-80k_cityscapes-769x769.py'

norm = dict(type='SyncBN', requires_grad=True)
crop = (769, 769)

model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='ResNet',             # the plain 7×7 stem that pretrained weights have, not V1c's
        depth=50,
        norm_cfg=norm,
    ),
    decode_head=dict(norm_cfg=norm),
    auxiliary_head=dict(norm_cfg=norm),
    test_cfg=dict(_delete_=True, mode='whole'),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,                  # a GPU: 16 = 8 GPUs × 2
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

iterations = 90000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations // 10)
optim_wrapper = dict(optimizer=dict(lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 7 // 10, iterations * 9 // 10]),   # × 0.1 at 70 % and 90 %
]
default_hooks = dict(checkpoint=dict(interval=iterations // 10, max_keep_ckpts=1))
