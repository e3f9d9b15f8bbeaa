"""ResNets with layer or group norm: each image by itself, and handed over exactly."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine import Config

from densessl.backbones import build_backbone
from densessl.errors import UsageError
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import compare_features
from densessl.transfer.recipe import Recipe
from densessl.transfer.translate import counterpart, translate
from densessl.weights.families import is_plain_resnet, resnet_shape
from densessl.weights.group_norm import group_count

META = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], channel_order='RGB')
GROUPS = {'layer': 1, 'group': 32}


def perturbed(norm, name='resnet18'):
    """A backbone none of whose parameters has its neutral start value."""
    torch.manual_seed(0)
    source = dict(type=f'torchvision.{name}', norm=norm)
    backbone = build_backbone(source)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return source, backbone.state_dict()


@pytest.mark.parametrize('norm', GROUPS)
def test_layer_norm_is_over_channels_and_pixels(norm):
    backbone = build_backbone(dict(type='torchvision.resnet18', norm=norm))
    x = torch.randn(2, 64, 5, 5)
    grouped = x.view(2, GROUPS[norm], -1)
    expected = F.layer_norm(grouped, grouped.shape[2:]).view_as(x)
    torch.testing.assert_close(backbone.bn1(x), expected)
    assert not [key for key in backbone.state_dict() if 'running' in key]


@pytest.mark.parametrize('target', ['mmdet', 'mmseg', 'timm', 'torchvision'])
@pytest.mark.parametrize('norm', GROUPS)
def test_handed_over_with_equal_features(norm, target):
    source, state = perturbed(norm)
    library = TRANSFER_TARGETS.get(target)()
    translated = translate(library, state, source['type'])
    own = counterpart(library, translated, source)
    backbone = build_backbone(own)
    backbone.load_state_dict(translated)     # every key
    check = compare_features(state, {**META, 'backbone': source}, backbone)
    assert len(check.differences) == 4 and max(check.differences) < 1e-5
    back = translate(TRANSFER_TARGETS.get('torchvision')(), translated, own['type'])
    assert back.keys() == state.keys()
    assert target == 'timm' or group_count(own) == GROUPS[norm]


def test_names_of_batch_norms_stay():
    state = build_backbone(dict(type='torchvision.resnet18')).state_dict()
    for target in ('mmdet', 'mmseg', 'torchvision', 'timm'):
        assert translate(TRANSFER_TARGETS.get(target)(), state, 'torchvision.resnet18') == state
    assert is_plain_resnet(state) and resnet_shape(state).norm_groups == 0


def test_without_the_number_of_groups_there_is_nothing_to_check_on():
    _, state = perturbed('group')
    for target in ('mmdet', 'torchvision', 'timm'):
        library = TRANSFER_TARGETS.get(target)()
        translated = translate(library, state, 'torchvision.resnet18')
        assert counterpart(library, translated, dict(type='other.resnet18')) is None


def test_the_recipe_gives_the_downstream_backbone_the_same_norm():
    target = TRANSFER_TARGETS.get('mmseg')()
    target.prepare()
    cfg = Config(dict(model=dict(
        backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='SyncBN')),
        decode_head=dict(norm_cfg=dict(type='SyncBN'))), data_preprocessor=dict()))
    lines = target.apply_recipe(cfg, Recipe(groups=1))
    assert 'backbone.norm_cfg: GN of 1 groups (as pretrained)' in lines
    assert cfg.model.backbone.norm_cfg == dict(type='GN', num_groups=1, requires_grad=True)
    assert cfg.model.decode_head.norm_cfg.type == 'BN', 'the head keeps its own'
    cfg.model.backbone.norm_cfg = dict(type='BN')
    target.apply_recipe(cfg, Recipe(groups=1, keep=frozenset({'norm'})))
    assert cfg.model.backbone.norm_cfg.type == 'BN'


@pytest.mark.parametrize('wrong, message', [
    (dict(type='torchvision.resnet18', norm='batch'), "norm 'batch' .* layer or group"),
    (dict(type='torchvision.resnet18', norm='layer', width=2), 'cannot be combined with width'),
    (dict(type='torchvision.convnext_tiny', norm='layer'), 'it is for ResNets')])
def test_what_has_no_such_norm_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        build_backbone(wrong)
