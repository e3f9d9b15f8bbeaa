"""CPC, ResNet-50 with layer norm, ImageNet.

van den Oord et al. 2018, Representation Learning with Contrastive Predictive Coding
    https://arxiv.org/abs/1807.03748
Hénaff et al. 2020, Data-Efficient Image Recognition with Contrastive Predictive Coding (v2)
    https://arxiv.org/abs/1905.09272

    torchrun --nproc_per_node 8 tools/train.py configs/cpc_r50.py \
        --data /data/imagenet/train --launcher pytorch

Views, rows, rate and batch are those of v1 (section 3.3), the context network's blocks those of
v2's appendix. v1 encodes with a ResNet-v2-101 up to its third stage and without batch norm; here it
is all four stages of a ResNet-50 with v2's layer norm.

v2        --cfg-options model.directions=4
          Its color dropping and its larger patches are not part of this config.
Cost      a step encodes 512 × 49 patches of 64 px, as many pixels as 4 views of 224 px an image.
          512 = 32 GPUs × 16. v1 does not state its length; 200 epochs are this project's choice.
Expected  no figure is known for this recipe. The paper's is ImageNet linear top-1 48.7, top-5 73.6,
          with the ResNet-v2-101. Not reproduced by this project.

The backbone has layer norm, so a downstream model needs it, too: it is set by the recipe of the
hand-off (`densessl finetune` prints it).

Differs from the release
          Neither v1 nor v2 released code. The encoder and the number of epochs, as said above;
          200 epochs and Adam's other constants are PyTorch's and this project's choice.
"""
_base_ = ['_base_/pretrain.py']

data = 'data/imagenet/train'

views = [dict(
    resize=300,                # short side
    patch=64, grid=7, shift=0, gap=-32,   # crop of 7 · 32 + 32 = 256; patches overlap by half
    inner=60,                  # of 64: a random square, its edge repeated around it
    flip=0.5, gray=1.0)]

model = dict(
    type='cpc',
    backbone=dict(type='torchvision.resnet50', norm='layer'),
    steps=(1, 2, 3, 4, 5),     # rows below
    directions=1,              # downwards
    projection=64, hidden=256, blocks=5)

epochs = 200
global_batch = 512
schedule = dict(type='constant', base_lr=2e-4, reference_batch=512, warmup_epochs=0)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', weight_decay=0.0))
sync_bn = False
recipe = {200: {}}

# What --init changes, so that the weights it loads are not forgotten (docs/continue.md).
continuing = dict(
    heads_first=0.1, layer_decay=0.7, rate=0.03, freeze=None, follow_norms=False)
