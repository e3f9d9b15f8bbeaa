"""DetCon-S, ResNet-50, pretrained on COCO train2017 instead of ImageNet.

Hénaff et al. 2021, Efficient Visual Pretraining with Contrastive Detection
    https://arxiv.org/abs/2103.10957, section 4 (pretraining on COCO)

    densessl train detcon_s_coco_r50 --data data/coco/train2017
    densessl train detcon_s_coco_r50 --data data/coco/annotations/instances_train2017.json

Scenes of many objects instead of photographs of one. Labels are not read: masks are
Felzenszwalb–Huttenlocher regions as on ImageNet.

Cost      1000 epochs × 118 287 images: a tenth of the ImageNet recipe's.
Expected  not stated here: the figures were not at hand from a source.
Differs from the release
          There is none to differ from; see detcon_s_r50.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/coco/train2017'

masks = dict(type='felzenszwalb', scale=1000, sigma=0.8, min_size=1000)

_view = dict(
    style='tensorflow', size=224, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), crop='clipped',
    interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.2)
views = [                      # the one view is always blurred, the other never
    dict(**_view, blur=dict(p=1.0, sigma=(0.1, 2.0))),
    dict(**_view, blur=dict(p=0.0, sigma=(0.1, 2.0))),
]

model = dict(
    type='detcon_s',
    backbone=dict(type='torchvision.resnet50', zero_init_residual=True),
    num_regions=16,
    projection=128,            # 2048 → 2048 → 128
    temperature=0.1)

epochs = 1000
global_batch = 4096
schedule = dict(
    type='cosine',
    base_lr=0.3,               # rate = 0.3 · 4096 / 256 = 4.8
    reference_batch=256,
    warmup_epochs=10)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='LARS', momentum=0.9, weight_decay=1e-6, trust=1e-3,
                   lr_in_momentum=True))
sync_bn = True
recipe = {200: {}, 300: {}, 1000: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.3, freeze=None, follow_norms=True)
