"""Backbones by name from every installed target: maps, strides, keys, initialization."""
import copy

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from densessl.backbones import Stage, build_backbone, feature_maps, feature_stages, finest_first
from densessl.errors import UsageError

FOUR = (4, 8, 16, 32)
BUILT = [
    ({'type': 'torchvision.resnet18'}, (64, 128, 256, 512), FOUR),
    ({'type': 'torchvision.resnet50'}, (256, 512, 1024, 2048), FOUR),
    ({'type': 'torchvision.resnet50', 'replace_stride_with_dilation': [False, False, True]},
     (256, 512, 1024, 2048), (4, 8, 16, 16)),
    ({'type': 'torchvision.swin_t'}, (96, 192, 384, 768), FOUR),
    ({'type': 'torchvision.convnext_tiny'}, (96, 192, 384, 768), FOUR),
    ({'type': 'torchvision.regnet_x_400mf'}, (32, 64, 160, 400), FOUR),
    ({'type': 'torchvision.mobilenet_v3_small'}, (16, 24, 48, 576), FOUR),
    ({'type': 'torchvision.densenet121'}, (256, 512, 1024, 1024), FOUR),
    ({'type': 'torchvision.vit_b_32'}, (768,), (32,)),
    ({'type': 'timm.resnet18'}, (64, 128, 256, 512), FOUR),
    ({'type': 'timm.convnext_atto'}, (40, 80, 160, 320), FOUR),
    ({'type': 'timm.vit_tiny_patch16_224'}, (192,), (16,)),
    ({'type': 'timm.swin_tiny_patch4_window7_224'}, (96, 192, 384, 768), FOUR),
    ({'type': 'mmseg.ResNet', 'depth': 18}, (64, 128, 256, 512), FOUR),
    ({'type': 'mmseg.MixVisionTransformer', 'embed_dims': 16, 'num_heads': [1, 2, 4, 8]},
     (16, 32, 64, 128), FOUR),
    ({'type': 'mmseg.UNet', 'base_channels': 4}, (4, 8, 16, 32, 64), (1, 2, 4, 8, 16)),
]


@pytest.mark.parametrize(('cfg', 'channels', 'strides'), BUILT,
                         ids=[cfg['type'] for cfg, _, _ in BUILT])
def test_maps_are_found_and_everything_in_the_backbone_is_trained(cfg, channels, strides):
    backbone = build_backbone(cfg)
    assert feature_stages(backbone) == [
        Stage(c, s) for c, s in zip(channels, strides, strict=True)]
    backbone.train()
    sum(map_.float().mean() for map_ in backbone(torch.randn(2, 3, 96, 96))).backward()
    unused = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert unused == []   # a parameter without gradient stops a distributed run


def test_the_dry_run_leaves_no_trace():
    backbone = build_backbone({'type': 'torchvision.resnet18'})
    backbone.train()
    backbone.layer1.eval()
    before = copy.deepcopy(backbone.state_dict())
    feature_stages(backbone, size=64)
    assert backbone.training and not backbone.layer1.training and backbone.layer2.training
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize('cfg', [
    {'type': 'torchvision.resnet18'}, {'type': 'timm.vit_tiny_patch16_224'},
    {'type': 'mmseg.ResNet', 'depth': 18}], ids=lambda cfg: cfg['type'])
def test_mmengine_initializes_nothing_again(cfg):
    model = BaseModule()
    model.backbone = build_backbone(cfg)
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize('kind', ['torchvision.resnet18', 'timm.resnet18', 'timm.convnext_atto'])
def test_a_copy_stands_alone(kind):
    backbone = build_backbone({'type': kind})
    twin = copy.deepcopy(backbone)
    image = torch.randn(1, 3, 64, 64)
    before = feature_maps(twin, image)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, feature_maps(twin, image), strict=True))


def test_maps_come_finest_first():
    coarse, fine = torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 8, 8)
    assert finest_first([coarse, fine])[0] is fine
    assert finest_first(fine) == (fine,)


@pytest.mark.parametrize(('cfg', 'words'), [
    ({'type': 'resnet18'}, ["must be 'TARGET.name'", 'torchvision', 'timm']),
    ({}, ["must be 'TARGET.name'"]),
    ({'type': 'torchvison.resnet18'}, ["did you mean 'torchvision'"]),
    ({'type': 'torchvision.resnet81'}, ['resnet18', 'list_models']),
    ({'type': 'timm.resnet81'}, ['resnet', 'list_models']),
    ({'type': 'mmseg.ResNett'}, ['ResNet']),
    ({'type': 'torchvision.resnet18', 'depht': 1}, ['depht']),
    ({'type': 'timm.resnet18', 'depht': 1}, ['depht']),
    ({'type': 'mmseg.ResNet', 'depth': 17}, ['17']),
    ({'type': 'torchvision.googlenet'}, ['not a chain']),
])
def test_a_wrong_backbone_is_one_clear_line(cfg, words):
    with pytest.raises(UsageError) as error:
        build_backbone(cfg)
    assert all(word in str(error.value) for word in words)
    assert '\n' not in str(error.value)


def test_a_backbone_of_one_size_says_so():
    with pytest.raises(UsageError, match='does not take an image of 160×160'):
        feature_stages(build_backbone({'type': 'timm.mixer_s32_224'}), size=160)


def test_a_backbone_that_can_be_built_but_not_run_is_one_line():
    class Broken(nn.Module):
        def forward(self, image):
            return image + 'text'

    with pytest.raises(UsageError, match='Broken does not run on an image: TypeError'):
        feature_maps(Broken(), torch.zeros(1, 3, 8, 8))
