"""Translations between libraries, each proven by the features of both networks."""
import logging
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

from densessl.backbones import build_backbone, feature_maps
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.finetune.runner import HandoffHook
from densessl.finetune.weights import Weights
from densessl.pixels.normalization import normalize
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import compare_features, compare_keys, reference_image
from densessl.transfer.mmengine_layouts import channels_inside, channels_outside
from densessl.transfer.translate import counterpart, neutral_weights, translate
from densessl.weights.key_layouts import relative_positions
from densessl.weights.keymap import KeyMap, Rename

META = {'mean': [120.0, 110.0, 100.0], 'std': [60.0, 61.0, 62.0], 'channel_order': 'RGB'}
SWIN = {'type': 'timm.swin_tiny_patch4_window7_224', 'embed_dim': 12, 'depths': (2, 2, 2, 2),
        'num_heads': (1, 2, 4, 8)}
CONVNEXT = {'type': 'timm.convnext_tiny', 'depths': (1, 1, 2, 1), 'dims': (8, 16, 24, 32)}
VIT = {'type': 'timm.vit_tiny_patch16_224', 'depth': 2}
LN = {'type': 'LN', 'eps': 1e-6}


def disturbed(module):
    """No weight is where initialization puts it: a swapped or lost one changes the features."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point():
            low, high = (0.5, 1.5) if 'var' in name or (
                value.ndim == 1 and name.endswith('weight')) else (-0.2, 0.2)
            if value.ndim < 2 or 'table' in name or 'token' in name or 'pos_' in name \
                    or 'layer_scale' in name:
                value.data.uniform_(low, high, generator=generator)
    return module


def translated(cfg, to):
    """Key table and feature check of a backbone that was handed to library ``to``."""
    target, state = TRANSFER_TARGETS.get(to)(), disturbed(build_backbone(cfg)).state_dict()
    own = translate(target, state, cfg['type'])
    theirs = build_backbone(counterpart(target, own, cfg))
    theirs.load_state_dict(own, strict=False)
    added = target.added_modules(theirs, own)
    return (compare_keys(own, {'': theirs}, added),
            compare_features(state, {**META, 'backbone': cfg}, theirs, added))


@pytest.mark.parametrize(('cfg', 'to', 'stages'), [
    (SWIN, 'mmdet', 4), (SWIN, 'mmseg', 4),
    ({'type': 'mmdet.SwinTransformer', 'embed_dims': 12, 'depths': (2, 2, 2, 2),
      'num_heads': (1, 2, 4, 8), 'out_indices': (3,)}, 'timm', 1),
    (CONVNEXT, 'mmseg', 4), (CONVNEXT, 'mmdet', 4), ({'type': 'timm.convnext_atto'}, 'mmseg', 4),
    (VIT, 'mmseg', 1),
    ({'type': 'mmseg.VisionTransformer', 'num_layers': 2, 'embed_dims': 128, 'num_heads': 2,
      'patch_bias': True, 'final_norm': True, 'norm_cfg': LN}, 'timm', 1),
    ({'type': 'timm.resnet18d'}, 'mmdet', 4),
    ({'type': 'mmseg.ResNetV1c', 'depth': 18}, 'timm', 4),
], ids=lambda value: value['type'] if isinstance(value, dict) else None)
def test_the_features_are_the_same(cfg, to, stages):
    keys, features = translated(cfg, to)
    assert keys.complete and keys.loaded
    assert len(features.differences) == features.stages == stages
    assert max(features.differences) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(('cfg', 'to'), [
    ({'type': 'torchvision.resnet18', 'width': 2}, 'mmdet'),
    *(({'type': f'{a}.{name}'}, b) for a, b, name in (
        ('torchvision', 'timm', 'swin_t'), ('torchvision', 'mmdet', 'swin_t'),
        ('timm', 'torchvision', 'swin_tiny_patch4_window7_224'),
        ('torchvision', 'timm', 'vit_b_32'), ('torchvision', 'mmseg', 'vit_b_32'),
        ('timm', 'torchvision', 'vit_base_patch32_224'),
        ('torchvision', 'timm', 'convnext_tiny'), ('torchvision', 'mmdet', 'convnext_tiny'),
        ('timm', 'torchvision', 'convnext_tiny'),
        ('torchvision', 'timm', 'wide_resnet50_2'), ('timm', 'mmdet', 'resnext50_32x4d'),
        ('timm', 'mmseg', 'resnet50d')))],
    ids=lambda value: value['type'] if isinstance(value, dict) else value)
def test_the_features_of_published_sizes_are_the_same(cfg, to):
    keys, features = translated(cfg, to)
    assert keys.complete and len(features.differences) == features.stages
    assert max(features.differences) <= 1e-5


def small_torchvision(kind):
    """A small member that torchvision has no name for, and its ``links`` as a backbone."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    from densessl_plugins.torchvision.maps import StageMaps, ViTMaps, links_of
    if kind == 'vit':
        return ViTMaps(torchvision.models.VisionTransformer(
            224, 16, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=256))
    model = torchvision.models.SwinTransformer(
        [4, 4], 12, [2, 2, 2, 2], [1, 2, 4, 8], [7, 7], stochastic_depth_prob=0.0
    ) if kind == 'swin' else ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 2),
                                       CNBlockConfig(24, 32, 1), CNBlockConfig(32, None, 1)])
    return StageMaps(model, list(links_of(model, kind)))


@pytest.mark.parametrize(('kind', 'to'), [('vit', 'timm'), ('vit', 'mmseg'), ('swin', 'timm'),
                                          ('swin', 'mmdet'), ('convnext', 'timm')])
def test_torchvisions_layouts_in_small(kind, to):
    ours = disturbed(small_torchvision(kind))
    target, state = TRANSFER_TARGETS.get(to)(), ours.state_dict()
    own = translate(target, state, 'torchvision.any')
    theirs = build_backbone(counterpart(target, own, {'type': 'torchvision.any'}))
    theirs.load_state_dict(own, strict=False)
    added = target.added_modules(theirs, own)
    assert compare_keys(own, {'': theirs}, added).complete
    for path in added:
        theirs.set_submodule(path, nn.Identity())
    image = normalize(reference_image(448 if kind == 'swin' else 224), META)[None]
    pairs = list(zip(feature_maps(ours, image), feature_maps(theirs, image), strict=True))
    assert all((a - b).abs().max() <= 1e-5 * a.abs().max() for a, b in pairs)
    family, neutral = neutral_weights(own, f'{to}.any')
    layout = next(layout for layout in TRANSFER_TARGETS.get('torchvision')().layouts()
                  if layout.family is family)
    back = layout.write(neutral)                                     # and back to the last key
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_a_wrong_reordering_is_caught_by_the_features():
    """Patch merging takes its inputs in another order: without it every key fits all the same."""
    target, state = TRANSFER_TARGETS.get('mmdet')(), disturbed(build_backbone(SWIN)).state_dict()
    own = translate(target, state, SWIN['type'])
    for key in own:
        if key.endswith('downsample.reduction.weight'):
            own[key] = channels_inside(own[key])
    theirs = build_backbone(counterpart(target, own, SWIN))
    theirs.load_state_dict(own, strict=False)
    added = target.added_modules(theirs, own)
    assert compare_keys(own, {'': theirs}, added).complete
    check = compare_features(state, {**META, 'backbone': SWIN}, theirs, added)
    assert check.differences[0] < 1e-5 < 1e-3 < check.differences[1]
    with pytest.raises(UsageError, match='stage 2 differs'):
        check.require_equal('mmdet')


def test_patch_merging_channels_against_a_loop():
    def merged(image):                                   # as microsoft/Swin-Transformer does
        return torch.cat([image[row::2, column::2]
                          for column in (0, 1) for row in (0, 1)], -1)
    image = torch.arange(2 * 2 * 5).float().reshape(2, 2, 5)                        # (H, W, C)
    inside = merged(image).flatten()
    outside = nn.functional.unfold(image.permute(2, 0, 1)[None], 2, stride=2).flatten()
    assert torch.equal(channels_outside(inside), outside)
    assert torch.equal(channels_inside(outside), inside)


def test_relative_positions_against_a_loop():
    index = relative_positions(3)
    for a in range(9):
        for b in range(9):
            down, right = a // 3 - b // 3, a % 3 - b % 3
            assert index[a, b] == (down + 2) * 5 + right + 2
    block = torchvision.models.swin_t().features[1][0]
    assert torch.equal(relative_positions(7).flatten(), block.attn.relative_position_index)


def test_a_table_is_read_in_both_directions_and_is_strict():
    table = KeyMap([Rename('a.{i}.{p}', 'b.{i}.c.{p}', read=lambda v: v + 1, write=lambda v: v - 1),
                    Rename('x', 'y')])
    state = {'a.3.weight': torch.zeros(1), 'x': torch.ones(1)}
    neutral = table.to_neutral(state)
    assert neutral == {'b.3.c.weight': torch.ones(1), 'y': torch.ones(1)}
    assert table.to_own(neutral) == state
    assert table.to_neutral({'a.3.gamma': torch.zeros(1)}) is None   # a key with no place
    assert KeyMap([Rename('a', 'c'), Rename('b', 'c')]).to_neutral(
        {'a': torch.zeros(1), 'b': torch.ones(1)}) is None           # two keys become one


@pytest.mark.parametrize(('cfg', 'to', 'words'), [
    ({'type': 'timm.resnet18d'}, 'torchvision', 'torchvision builds no ResNets with a deep stem'),
    ({'type': 'timm.wide_resnet50_2'}, 'mmdet', 'mmdet builds no ResNets .* of this kind'),
    (CONVNEXT, 'torchvision', 'torchvision builds no ConvNeXts of this kind'),
    (VIT, 'mmdet', 'mmdet builds no Vision Transformers'),
    ({'type': 'mmdet.SwinTransformer', 'embed_dims': 12, 'depths': (2, 2, 2, 2),
      'num_heads': (1, 2, 4, 8)}, 'timm', 'no exact translation'),   # its norms have no place there
    ({'type': 'timm.vit_tiny_patch16_224', 'depth': 2, 'reg_tokens': 2}, 'mmseg',
     'no exact translation'),
], ids=lambda value: value['type'] if isinstance(value, dict) else None)
def test_what_has_no_exact_translation_is_refused(cfg, to, words):
    with pytest.raises(UsageError, match=words):
        translate(TRANSFER_TARGETS.get(to)(), build_backbone(cfg).state_dict(), cfg['type'])


def test_other_heads_than_the_shapes_tell_are_caught_by_the_features(make_checkpoint, tmp_path):
    checkpoint = make_checkpoint({**VIT, 'num_heads': 6})             # 32 channels each, not 64
    with pytest.raises(UsageError, match='computes other features'):
        export_backbone(checkpoint, tmp_path / 'b.pth', to='mmseg')
    assert list(tmp_path.iterdir()) == []


def test_a_swin_export_counts_the_new_norms_apart(make_checkpoint, tmp_path):
    done = export_backbone(make_checkpoint(SWIN), tmp_path / 'b.pth', to='mmdet')
    assert done.keys.complete and sorted({key[:5] for key in done.keys.added}) == [
        'norm0', 'norm1', 'norm2']
    assert '127 of 127 keys loaded; 6 new behind the maps' in done.keys.summary()
    assert 'added' in [column.header for column in done.keys.table().columns]
    state = torch.load(done.copy, weights_only=True)['state_dict']
    missing, unexpected = build_backbone(done.counterpart).load_state_dict(state, strict=False)
    assert unexpected == [] and sorted(missing) == sorted(done.keys.added)


def test_a_detector_with_a_swin_starts_from_a_translated_one(make_checkpoint, tmp_path):
    weights = Weights.load(export_backbone(make_checkpoint(SWIN), tmp_path / 'b.pth').path)
    target = TRANSFER_TARGETS.get('mmdet')()
    weights.fit(target, {}, allow_partial=True)
    model = nn.Module()
    model.backbone = build_backbone({'type': 'mmdet.SwinTransformer', 'embed_dims': 12,
                                     'depths': (2, 2, 2, 2), 'num_heads': (1, 2, 4, 8)})
    model.backbone.load_state_dict(weights.placed, strict=False)
    hook = HandoffHook(target, weights, check_input=False, allow_partial=False)
    hook.after_init_weights(SimpleNamespace(model=model, logger=logging.getLogger('test')))
    assert hook.report['keys'] == {'loaded': 127, 'missing': 0, 'unexpected': 0, 'mismatched': 0,
                                   'altered': 0, 'added': 6}
    assert len(hook.report['features']['differences']) == 4
    assert isinstance(model.backbone.norm0, nn.LayerNorm)            # the model itself keeps it
    nn.init.normal_(model.backbone.stages[0].blocks[0].norm1.weight)
    with pytest.raises(UsageError, match='1 not loaded or changed afterwards'):
        hook.after_init_weights(SimpleNamespace(model=model, logger=logging.getLogger('test')))
