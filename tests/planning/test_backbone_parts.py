"""Stem and stages of networks of every library and kind."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from densessl.backbones import build_backbone
from densessl.planning.backbone_parts import parameters_by_stage

RESNETS = [dict(type='torchvision.resnet18'), dict(type='timm.resnet18'),
           dict(type='mmdet.ResNet', depth=18)]


@pytest.mark.parametrize('network', RESNETS, ids=lambda cfg: cfg['type'])
def test_a_resnets_stages_are_its_layers(network):
    stem, *stages = parameters_by_stage(build_backbone(network))
    assert stem == ['conv1.weight', 'bn1.weight', 'bn1.bias']
    for i, names in enumerate(stages, 1):
        assert {name.partition('.')[0] for name in names} == {f'layer{i}'}
    assert [len(names) for names in stages] == [12, 15, 15, 15]


@pytest.mark.parametrize(('network', 'stem', 'first', 'number'), [
    (dict(type='timm.tf_efficientnet_lite0'), {'conv_stem', 'bn1'}, {'blocks.0', 'blocks.1'}, 4),
    (dict(type='timm.convnext_atto'), {'stem.0', 'stem.1'}, {'stages.0'}, 4),
    (dict(type='torchvision.mobilenet_v3_small'), {'features.0'}, {'features.1'}, 4),
    (dict(type='timm.vit_tiny_patch16_224'), {'cls_token', 'pos_embed', 'patch_embed.proj'},
     {'blocks.0', 'blocks.1', 'blocks.2'}, 4),
    (dict(type='mmseg.MixVisionTransformer', embed_dims=16), {'layers.0.0'},
     {'layers.0.1', 'layers.0.2'}, 4),
], ids=lambda value: value['type'] if isinstance(value, dict) else '')
def test_other_families(network, stem, first, number):
    backbone = build_backbone(network)
    groups = parameters_by_stage(backbone)
    depth = max(len(name.split('.')) for name in stem)
    assert {'.'.join(name.split('.')[:depth]).removesuffix('.weight').removesuffix('.bias')
            for name in groups[0]} == stem
    depth = max(len(name.split('.')) for name in first)
    assert {'.'.join(name.split('.')[:depth]) for name in groups[1]} == first
    assert len(groups) == number + 1
    assert sorted(name for names in groups for name in names) == sorted(
        name for name, _ in backbone.named_parameters())


def test_nothing_is_left_changed():
    backbone = build_backbone(RESNETS[0]).train()
    backbone.bn1.eval()
    backbone.conv1.requires_grad_(False)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    parameters_by_stage(backbone)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert backbone.training and not backbone.bn1.training
    assert not backbone.conv1.weight.requires_grad and backbone.layer1[0].conv1.weight.requires_grad


class OneConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, 8)

    def forward(self, x):
        return (self.conv(x),)


def test_a_network_of_one_layer_has_one_stage_and_no_stem():
    assert parameters_by_stage(OneConvolution()) == [[], ['conv.weight', 'conv.bias']]
