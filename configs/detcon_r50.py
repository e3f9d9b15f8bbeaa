"""DetCon-B, ResNet-50, 1000 epochs of ImageNet.

Hénaff et al. 2021, Efficient Visual Pretraining with Contrastive Detection
    https://arxiv.org/abs/2103.10957, released code https://github.com/google-deepmind/detcon

    densessl train detcon_r50 --data /data/imagenet/train
    torchrun --nproc_per_node 8 tools/train.py configs/detcon_r50.py \
        --data /data/imagenet/train --launcher pytorch --epochs 300

Any folder of images will do; classes and annotations are not read. The paper's section 4 also
pretrains on COCO: the same recipe on a tenth of the images, scenes of many objects.

    densessl train detcon_r50 --data data/coco/train2017
    densessl train detcon_r50 --data data/coco/annotations/instances_train2017.json

Cost      1000 epochs × 1 281 167 images, two views of 224 px through two networks each.
          The published run used 4096 = 32 replicas × 128 images.
Expected  fine-tuned as in the paper: COCO 42.7 box / 38.2 mask AP, VOC 77.3 mIoU,
          Cityscapes 77.0 mIoU (paper, 1000 epochs). Re-evaluated in PyTorch by a third party:
          42.2 / 38.1, 75.6, 76.6; retrained there for 300 epochs: 41.5 / 38.3, 76.0, 76.2.
          Not reproduced by this project: no run of this size has been made with it.
Differs from the release
          Initial weights are torchvision's and PyTorch's (Kaiming fan-out, uniform), not haiku's
          (truncated normal, variance 1 / fan-in). Stem, max-pool and the convolutions that halve
          the size pad both sides alike, where 'SAME' pads the far side more: other libraries can
          then load the backbone. Resized views are rounded to 256 levels.
          Region ids of 256 and more stay distinct; the release casts them to 8 bits, where they
          wrap. COCO's images are normalized by ImageNet's mean and std, where the release feeds
          them as values of 0 to 1 (it comes without a reader of COCO).
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

# Felzenszwalb–Huttenlocher regions of the full-resolution image, once, kept in a mask store.
masks = dict(type='felzenszwalb', scale=1000, sigma=0.8, min_size=1000)

# BYOL's views: alike but for blur and solarization.
_view = dict(
    style='tensorflow', size=224, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), crop='clipped',
    interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.2)
views = [
    dict(**_view, blur=dict(p=1.0, sigma=(0.1, 2.0)), solarize=dict(p=0.0, threshold=0.5)),
    dict(**_view, blur=dict(p=0.1, sigma=(0.1, 2.0)), solarize=dict(p=0.2, threshold=0.5)),
]

model = dict(
    type='detcon',
    backbone=dict(type='torchvision.resnet50', zero_init_residual=True),
    num_regions=16,            # drawn per image and view, with replacement
    projection=(4096, 256),    # hidden and output width of projector and predictor
    temperature=0.1,
    tau_base=0.996,            # target momentum, by a cosine to 1
    target_init='fresh')       # as released: online and target start from different weights

epochs = 1000
global_batch = 4096
schedule = dict(
    type='cosine',
    base_lr=0.2,               # rate = 0.2 · 4096 / 256 = 3.2
    reference_batch=256,
    warmup_epochs=10)          # the released code: epochs // 100
optim_wrapper = dict(
    type='OptimWrapper',       # BFloat16OptimWrapper for mixed precision
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='LARS', momentum=0.9, weight_decay=1.5e-6, trust=1e-3))
sync_bn = True                 # statistics over B × 16 regions of all replicas

# The release keeps rate, decay and τ at every length and warms up for epochs // 100 epochs
# (detcon_b_config.py); 1000 epochs are the paper's length, 100 the release's default.
# `--epochs N` takes the row with the most epochs ≤ N.
recipe = {
    100: {'schedule.warmup_epochs': 1},
    200: {'schedule.warmup_epochs': 2},
    300: {'schedule.warmup_epochs': 3},
    1000: {'schedule.warmup_epochs': 10},
}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.01, freeze=None, follow_norms=False,
    **{'model.tau_base': 0.999})    # the target starts slow
