"""A ResNet-50 learns the dense features of a DINOv2 or DINOv3 Vision Transformer.

The loss is Theia's (Shang et al., CoRL 2024, https://arxiv.org/abs/2407.20179; released code
https://github.com/bdaiinstitute/theia): 0.9 · cosine + 0.1 · smooth L1 on standardized channels,
here cell by cell. Students, data and lengths of that paper are others; this recipe is this
project's own.

    densessl train distill_r50 --data IMAGES \
        --cfg-options model.teacher=timm.vit_base_patch14_dinov2.lvd142m
    densessl train distill_r50 --data IMAGES \
        --cfg-options model.teacher=dinov2_vitb14_pretrain.pth \
        model.teacher_as=timm.vit_base_patch14_dinov2
    densessl train distill_r50 --data IMAGES \
        --cfg-options model.teacher=timm.vit_base_patch16_dinov3.lvd1689m

The weights are yours to get (docs/continue.md says where, and under which license): the first and
the third line download what timm publishes, because you ask for it; the second takes a file of
https://github.com/facebookresearch/dinov2.

Cost      the teacher's forward pass beside the student's step; a ViT-B/14 at 224 pixels has about
          five times a ResNet-50's operations.
Expected  nothing has been measured at this size; docs/continue.md has a ResNet-18's figures.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

masks = None                   # only distill_regions uses masks

# One view for both networks. 224 = 16 × 14 = 14 × 16: both patch sizes divide it.
views = [dict(
    size=224, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic', flip=0.5,
    jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.1)]

model = dict(
    type='distill',
    backbone=dict(type='torchvision.resnet50'),
    teacher=None,              # give it
    cosine=0.9, l1=0.1)        # weights of the two terms (Theia's code, train_rvfm.py)

epochs = 100
global_batch = 1024
schedule = dict(
    type='cosine',
    base_lr=2.5e-4,            # rate = 2.5e-4 · 1024 / 256 = 1e-3
    reference_batch=256,
    warmup_epochs=5)
optim_wrapper = dict(
    type='OptimWrapper',       # BFloat16OptimWrapper for mixed precision
    constructor='ExcludeBiasAndNorm',
    optimizer=dict(type='AdamW', weight_decay=0.05))
sync_bn = True

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
