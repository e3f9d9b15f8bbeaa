"""PASCAL VOC semantic segmentation with an FCN on a ResNet-50: the "VOC" column of the papers.

He et al. 2020, Momentum Contrast      https://arxiv.org/abs/1911.05722
Hénaff et al. 2021, DetCon             https://arxiv.org/abs/2103.10957

    densessl finetune downstream/fcn_r50_voc12aug --backbone backbone.pth \
        --data-root /data/VOCdevkit
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/fcn_r50_voc12aug.py \
        --backbone backbone.pth --data-root /data/VOCdevkit --launcher pytorch

Data      VOC2012/ with JPEGImages/, SegmentationClass/, SegmentationClassAug/ (the additional label
          maps of Hariharan et al. 2011) and ImageSets/Segmentation/ with train_aug.txt (or
          train.txt and aug.txt) and val.txt: trained on the 10 582 images of train_aug, scored on
          val.
Cost      30 000 iterations × 16 crops of 513², 45 passes over the images (30 000 · 16 / 10 582)
Expected  mIoU of ResNet-50 backbones pretrained on ImageNet, as reported:
              Hénaff et al.   DetCon-B, 1000 epochs 77.3; BYOL, 1000 epochs 75.7
              Grill et al.    BYOL 76.3, SimCLR 75.2, MoCo 72.5, supervised 74.4
          Re-evaluated in PyTorch by a third party: DetCon-B 75.6; retrained for 300 epochs: 76.0.
          Not reproduced by this project: no run of this size has been made with it.
Twin      fcn_r18_voc12aug
"""
_base_ = 'mmseg::fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py'

norm = dict(type='SyncBN', requires_grad=True)
crop = (513, 513)

model = dict(
    data_preprocessor=dict(size=crop),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='ResNet',             # the plain 7×7 stem that pretrained weights have, not V1c's
        depth=50,
        strides=(1, 2, 2, 1),      # conv5: stride 1 …
        dilations=(1, 1, 1, 2),    # … and dilation 2, so the output stride is 16
        norm_cfg=norm,
    ),
    decode_head=dict(              # two 3×3×256 convolutions of dilation 6, then 1×1
        channels=256,
        num_convs=2,
        dilation=6,
        concat_input=False,
        dropout_ratio=0,
        norm_cfg=norm,
    ),
    auxiliary_head=None,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2052, 513), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2052, 513), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after Resize: scored at the label map's own size
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,                  # a GPU: 16 = 8 GPUs × 2
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='VocLabels',
        ann_file='ImageSets/Segmentation/train_aug.txt',
        data_root='data/VOCdevkit/VOC2012',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VocLabels',
        ann_file='ImageSets/Segmentation/val.txt',
        data_root='data/VOCdevkit/VOC2012',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

iterations = 30000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations // 10)
optim_wrapper = dict(optimizer=dict(lr=0.003, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 7 // 10, iterations * 9 // 10]),   # × 0.1 at 70 % and 90 %
]
default_hooks = dict(checkpoint=dict(interval=iterations // 10, max_keep_ckpts=1))
