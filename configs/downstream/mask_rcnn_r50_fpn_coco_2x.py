"""COCO with Mask R-CNN, FPN and a ResNet-50, the "2×" protocol: mask_rcnn_r50_fpn_coco with twice
the iterations. The gap to random initialization closes with length, so read it beside the 1×.

He et al. 2020, Momentum Contrast                   https://arxiv.org/abs/1911.05722
He et al. 2019, Rethinking ImageNet Pre-training    https://arxiv.org/abs/1811.08883

    densessl finetune downstream/mask_rcnn_r50_fpn_coco_2x --backbone backbone.pth \
        --data-root /data/coco
    torchrun --nproc_per_node 8 tools/finetune.py configs/downstream/mask_rcnn_r50_fpn_coco_2x.py \
        --backbone backbone.pth --data-root /data/coco --launcher pytorch

Data      as for mask_rcnn_r50_fpn_coco
Cost      180 000 iterations × 16 images = 24.6 passes over train (180 000 · 16 / 117 266)
Expected  No figure of this length is at hand; those of mask_rcnn_r50_fpn_coco are of half of it.
          No run of this size has been made with this project.
Twin      mask_rcnn_r18_coco
"""
_base_ = 'mask_rcnn_r50_fpn_coco.py'

iterations = 180000
train_cfg = dict(max_iters=iterations, val_interval=iterations // 18)
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.001, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, gamma=0.1,
         milestones=[iterations * 2 // 3, iterations * 8 // 9]),   # × 0.1 at 120 000 and 160 000
]
