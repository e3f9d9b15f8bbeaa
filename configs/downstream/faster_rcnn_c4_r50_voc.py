"""PASCAL VOC detection with Faster R-CNN on a ResNet-50's C4 features: the "VOC07+12, 24k" protocol
that compared MoCo with supervised weights.

He et al. 2020, Momentum Contrast      https://arxiv.org/abs/1911.05722
Chen et al. 2020, MoCo v2              https://arxiv.org/abs/2003.04297

    densessl finetune downstream/faster_rcnn_c4_r50_voc --backbone backbone.pth \
        --data-root /data/VOCdevkit
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/faster_rcnn_c4_r50_voc.py \
        --backbone backbone.pth --data-root /data/VOCdevkit --launcher pytorch

Data      VOC2007/ and VOC2012/, each with Annotations/, ImageSets/Main/ and JPEGImages/: trained on
          both trainval lists, 5011 + 11 540 images, scored on the test list of 2007.
Cost      24 000 iterations × 16 images = 23.2 passes (24 000 · 16 / 16 551)
Expected  AP50 / AP / AP75 of ResNet-50 backbones pretrained on ImageNet, means of 5 runs (standard
          deviation about 0.2: run several seeds before you read a difference):
              supervised            81.3 / 53.5 / 58.8
              MoCo v1, 200 epochs   81.5 / 55.9 / 62.6
              MoCo v2, 200 epochs   82.4 / 57.0 / 63.6
              MoCo v2, 800 epochs   82.5 / 57.4 / 64.0
          They were measured with Detectron2, which also trains on objects marked as difficult;
          MMDetection leaves those out. Not reproduced by this project: no run of this size has been
          made with it.
Twin      faster_rcnn_c4_r18_voc

BN is trained and synchronized everywhere, and one more follows res5, whose output would otherwise
reach the box predictor unnormalized. The backbone ends with res4; res5 is applied to each region,
so the weights of one backbone go to two places of the detector.
"""
_base_ = 'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'

norm = dict(type='SyncBN', requires_grad=True)

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(frozen_stages=-1, norm_eval=False, norm_cfg=norm, style='pytorch',
                  init_cfg=None),
    roi_head=dict(
        shared_head=dict(
            type='NormedResLayer',     # res5 and the BN after it
            norm_eval=False,
            norm_cfg=norm,
            style='pytorch',
            init_cfg=None,
        ),
    ),
)

train_dataloader = dict(
    batch_size=2,                      # a GPU: 16 = 8 GPUs × 2
    num_workers=4,
    dataset=dict(ignore_keys=['dataset_type']),   # the year, in which the two parts differ
)
val_evaluator = dict(iou_thrs=[percent / 100 for percent in range(50, 100, 5)])   # .5 … .95
test_evaluator = val_evaluator

iterations = 24000
train_cfg = dict(max_iters=iterations, val_interval=iterations // 8)
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.001, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 3 // 4, iterations * 11 // 12]),   # × 0.1 at 18 000 and 22 000
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=iterations // 8, max_keep_ckpts=1),
)
