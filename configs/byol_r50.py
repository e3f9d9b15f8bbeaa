"""BYOL, ResNet-50, 1000 epochs of ImageNet.

Grill et al. 2020, Bootstrap Your Own Latent
    https://arxiv.org/abs/2006.07733, released code
    https://github.com/google-deepmind/deepmind-research/tree/master/byol

    torchrun --nproc_per_node 8 tools/train.py configs/byol_r50.py \
        --data /data/imagenet/train --launcher pytorch [--epochs 300]

Cost      1000 epochs × 1 281 167 images, two views of 224 px through two networks each.
Expected  ImageNet linear top-1 74.3 (1000 epochs), 72.5 (300). VOC07 AP50 77.5, VOC12 mIoU 76.3;
          1 % / 10 % of the labels: top-1 53.2 / 68.8, as published. Not reproduced by this
          project.
Differs from the release
          Initial weights are torchvision's and PyTorch's (Kaiming fan-out, uniform), not haiku's
          (truncated normal, variance 1 / fan-in). Stem, max-pool and the convolutions that halve
          the size pad both sides alike, where 'SAME' pads the far side more: other libraries can
          then load the backbone. Resized views are rounded to 256 levels.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

# The two views differ in blur and solarization alone.
_view = dict(
    style='tensorflow', size=224, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), crop='clipped',
    interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.2)
views = [
    dict(**_view, blur=dict(p=1.0, sigma=(0.1, 2.0)), solarize=dict(p=0.0, threshold=0.5)),
    dict(**_view, blur=dict(p=0.1, sigma=(0.1, 2.0)), solarize=dict(p=0.2, threshold=0.5)),
]

model = dict(
    type='byol',
    backbone=dict(type='torchvision.resnet50', zero_init_residual=True),
    projection=(4096, 256),    # hidden and output width of projector and predictor
    tau_base=0.996,            # target momentum, by a cosine to 1
    target_init='fresh')       # as released: online and target start from different weights

epochs = 1000
global_batch = 4096
schedule = dict(
    type='cosine',
    base_lr=0.2,               # rate = 0.2 · 4096 / 256 = 3.2
    reference_batch=256,
    warmup_epochs=10)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='LARS', momentum=0.9, weight_decay=1.5e-6, trust=1e-3))
sync_bn = True

# byol/configs/byol.py of the release; warm-up is 10 epochs at every length.
recipe = {
    40: {'schedule.base_lr': 0.45, 'optim_wrapper.optimizer.weight_decay': 1e-6,
         'model.tau_base': 0.97},
    100: {'schedule.base_lr': 0.45, 'optim_wrapper.optimizer.weight_decay': 1e-6,
          'model.tau_base': 0.99},
    300: {'schedule.base_lr': 0.3, 'optim_wrapper.optimizer.weight_decay': 1e-6,
          'model.tau_base': 0.99},
    1000: {'schedule.base_lr': 0.2, 'optim_wrapper.optimizer.weight_decay': 1.5e-6,
           'model.tau_base': 0.996},
}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.05, freeze=None, follow_norms=False,
    **{'model.tau_base': 0.999})    # the target starts slow
