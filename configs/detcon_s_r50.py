"""DetCon-S, ResNet-50, 1000 epochs of ImageNet: the loss of DetCon on SimCLR's one network.

Hénaff et al. 2021, Efficient Visual Pretraining with Contrastive Detection
    https://arxiv.org/abs/2103.10957. No code was released for this variant: head, optimizer and
    schedule are SimCLR's, the views BYOL's but for the blur.

    torchrun --nproc_per_node 8 tools/train.py configs/detcon_s_r50.py \
        --data /data/imagenet/train --launcher pytorch
    densessl train detcon_s_r50 --data data/coco/train2017     # as the paper's section 4

Cost      1000 epochs × 1 281 167 images, two views of 224 px through one network.
Expected  claimed for DetCon: up to 10 × less pretraining than SimCLR for the same transfer.
          Not reproduced by this project.
Differs from the release
          There is none to differ from. Head, rate, decay, warm-up and LARS are those of SimCLR's
          release, the loss is DetCon-B's, and what neither says is chosen here: each view goes
          through the network by itself, and the blur is p = 1 and 0.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

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
    heads_first=0.1, layer_decay=0.7, rate=0.01, freeze=None, follow_norms=False)
