"""Jigsaw, ResNet-50, 105 epochs of ImageNet, 2000 permutations.

Noroozi & Favaro 2016, Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles
    https://arxiv.org/abs/1603.09246

    torchrun --nproc_per_node 8 tools/train.py configs/jigsaw_r50.py \
        --data /data/imagenet/train --launcher pytorch

The paper trains an AlexNet-like network; this is the ResNet-50 recipe of Goyal et al. 2019
(https://arxiv.org/abs/1905.01235) as in facebookresearch/vissl (jigsaw_8gpu_resnet), with each tile
standardized as in the paper (model.standardize=False leaves that out, as vissl does) and with a
permutation set of its own: see plugins/pretext/permutations.py.

Cost      105 epochs × 1 281 167 images × 9 tiles of 64 px, together as many pixels as 73 % of a
          view of 224 px. 256 = 8 GPUs × 32.
Expected  none is stated: no figure for this recipe was found at its source or measured here.
Differs from the release (vissl's)
          The warm-up starts at 0, there at a quarter of the rate. Tiles are standardized
          (model.standardize), and the 2000 permutations are this project's own choice of far ones.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

views = [dict(
    resize=256,                # short side
    patch=64, grid=3, shift=21, gap=0,   # crop of 3 · (64 + 21) = 255: a cell of 85 for each tile
    flip=0.5,
    gray=0.66)]                # against chromatic aberration

model = dict(
    type='jigsaw',
    backbone=dict(type='torchvision.resnet50'),
    permutations=2000,
    code=1000)                 # each tile 2048 → 1000 → BN → ReLU; 9 · 1000 → 2000

epochs = 105
global_batch = 256
schedule = dict(
    type='step', milestones=(30 / 105, 60 / 105, 90 / 105, 100 / 105), gamma=0.1,
    base_lr=0.1, reference_batch=256,
    warmup_epochs=5)           # of 105: 0.047619 of the run
optim_wrapper = dict(          # no weight decay on BN, but on biases
    type='OptimWrapper',
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0))
sync_bn = False
recipe = {105: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.5, rate=0.1, freeze=None, follow_norms=False)
