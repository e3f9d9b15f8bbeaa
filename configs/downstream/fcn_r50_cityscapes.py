"""Semantic segmentation on Cityscapes: an FCN on a ResNet-50, the protocol that compared MoCo,
BYOL and DetCon.

He et al. 2020, Momentum Contrast    https://arxiv.org/abs/1911.05722
Hénaff et al. 2021, DetCon           https://arxiv.org/abs/2103.10957

    densessl finetune downstream/fcn_r50_cityscapes --backbone backbone.pth \
        --data-root /data/cityscapes
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/fcn_r50_cityscapes.py \
        --backbone backbone.pth --data-root /data/cityscapes --launcher pytorch

Data      leftImg8bit/{train,val} and gtFine/{train,val} with *_labelTrainIds.png (cityscapesscripts
          makes them): trained on the 2975 images of train_fine, scored on val.
Cost      90 000 iterations × 16 crops of 769², 484 passes over the images (90 000 · 16 / 2975).
Expected  mIoU of ResNet-50 backbones pretrained on ImageNet, as reported by Hénaff et al.: DetCon-B
          (1000 epochs) 77.0, BYOL (1000 epochs) 74.6. Re-evaluated in PyTorch by a third party:
          DetCon-B 76.6; retrained there for 300 epochs: 76.2.
          Not reproduced by this project: no run of this size has been made with it.
"""
_base_ = 'mmseg::fcn/fcn_r50-d8_4xb2-80k_cityscapes-769x769.py'

norm = dict(type='SyncBN', requires_grad=True)
crop = (769, 769)

model = dict(
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
