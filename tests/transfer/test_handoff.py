"""The two checks of the hand-off, each shown to catch what it is there for."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from torch import nn

from densessl.backbones import build_backbone
from densessl.errors import UsageError
from densessl.export.export import load_backbone_file
from densessl.finetune.runner import HandoffHook
from densessl.finetune.weights import Weights
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import FeatureCheck, compare_features, compare_input, compare_keys


def loaded(cfg, state):
    backbone = build_backbone(cfg)
    backbone.load_state_dict(state)
    return backbone


def test_features_that_are_no_numbers_are_not_equal():
    """``max`` passes over NaN where it is not the first."""
    check = FeatureCheck([1e-7, float('nan')], 2, [1, 2])
    assert not check.equal and 'difference nan' in check.summary()
    with pytest.raises(UsageError, match='stage 2 differs by nan'):
        check.require_equal('mmdet')


def test_weights_that_compute_infinities_are_called_broken(backbone18):
    state, meta = load_backbone_file(backbone18)
    key = next(key for key in reversed(state) if key.endswith('running_var'))
    broken = {**state, key: torch.full_like(state[key], -1.0)}
    with pytest.raises(UsageError, match='on an image they compute infinities or NaN in stage'):
        compare_features(broken, meta, loaded(meta['backbone'], broken))


def test_every_key_is_accounted_for():
    state = {'a.w': torch.ones(2), 'a.b': torch.ones(2), 'c.w': torch.ones(3), 'd.w': torch.ones(1)}
    module = nn.Module()
    module.a, module.c = nn.Module(), nn.Module()
    for owner, name, value in ((module.a, 'w', torch.ones(2)), (module.a, 'b', torch.zeros(2)),
                               (module.c, 'w', torch.ones(4)), (module.c, 'v', torch.ones(1))):
        owner.register_buffer(name, value)
    keys = compare_keys(state, {'backbone': module})
    assert (keys.loaded, keys.altered, keys.mismatched, keys.unexpected, keys.missing) == (
        ['a.w'], ['a.b'], {'c.w': '(3,) → (4,)'}, ['d.w'], ['c.v'])
    assert not keys.complete
    assert keys.summary() == (
        '1 of 5 keys loaded; 1 missing in the file (c.v); 1 unknown to the model (d.w); '
        '1 of another shape (c.w (3,) → (4,)); 1 not loaded or changed afterwards (a.b)')
    assert [column.header for column in keys.table().columns] == [
        'part', 'loaded', 'missing', 'unexpected', 'mismatched', 'altered',
        'first that is not loaded']
    with pytest.raises(UsageError, match='1 of 5 keys loaded'):
        keys.require_complete('some.backbone', 'library')


def test_several_modules_may_share_the_weights(backbone18):
    state, _ = load_backbone_file(backbone18)
    model = build_backbone({'type': 'torchvision.resnet18'})
    model.load_state_dict(state)
    head = nn.Module()
    head.layer4 = model.layer4
    del model.layer4
    assert not compare_keys(state, {'backbone': model}).complete
    assert compare_keys(state, {'backbone': model, 'roi_head.shared_head': head}).complete


@pytest.mark.parametrize('target', [{'type': 'mmseg.ResNet', 'depth': 50},
                                    {'type': 'timm.resnet50'}])
def test_the_same_network_in_another_library_gives_the_same_features(backbone50, target):
    state, meta = load_backbone_file(backbone50)
    check = compare_features(state, meta, loaded(target, state))
    assert check.equal and len(check.differences) == check.stages == 4
    assert 'stages 1–4 of 4 compared' in check.summary()


def test_a_caffe_resnet_takes_every_key_and_is_caught(backbone50):
    state, meta = load_backbone_file(backbone50)
    backbone = loaded({'type': 'mmseg.ResNet', 'depth': 50, 'style': 'caffe'}, state)
    assert compare_keys(state, {'': backbone}).complete
    check = compare_features(state, meta, backbone)
    assert check.differences[0] < 1e-5 < 1e-3 < check.differences[1]   # layer1 does not stride
    with pytest.raises(UsageError, match=r"stage 2 differs .* style='caffe'"):
        check.require_equal('mmseg')


def test_comparison_ends_at_the_first_restrided_stage(backbone18):
    state, meta = load_backbone_file(backbone18)
    dilated = {'type': 'mmseg.ResNet', 'depth': 18, 'strides': (1, 2, 2, 1),
               'dilations': (1, 1, 1, 2)}
    check = compare_features(state, meta, loaded(dilated, state))
    assert check.equal and len(check.differences) == 3 and check.restrided
    assert 'stages 1–3 of 4 compared (stage 4 is re-strided by the config)' in check.summary()


def test_a_target_may_give_fewer_maps(backbone18):
    state, meta = load_backbone_file(backbone18)
    some = {'type': 'mmseg.ResNet', 'depth': 18, 'out_indices': (1, 3)}
    check = compare_features(state, meta, loaded(some, state))
    assert check.equal and len(check.differences) == 2


def test_nothing_to_compare_is_not_a_pass(backbone18):
    state, meta = load_backbone_file(backbone18)
    check = compare_features(state, meta, build_backbone({'type': 'mmseg.ResNet', 'depth': 50}))
    assert check.differences == []
    with pytest.raises(UsageError, match='cannot be compared'):
        check.require_equal('mmseg')


class Model(nn.Module):
    def __init__(self, **changes):
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor(**{
            'mean': [120.0, 110.0, 100.0], 'std': [60.0, 61.0, 62.0], 'bgr_to_rgb': True,
            **changes})


@pytest.mark.parametrize(('model', 'differs'), [
    (Model(), False),
    (Model(bgr_to_rgb=False), True),                      # the channel order
    (Model(mean=[123.675, 116.28, 103.53]), True),
    (Model(std=[1.0, 1.0, 1.0]), True),
])
def test_input_is_compared_from_the_pixels_on(backbone18, model, differs):
    _, meta = load_backbone_file(backbone18)
    assert (compare_input(model, meta, 'BGR') > 1e-3) == differs
    # RGB loaders, a pretraining in BGR: the flag then swaps the other way
    assert (compare_input(model, {**meta, 'channel_order': 'BGR'}, 'RGB') > 1e-3) == differs


@pytest.mark.parametrize(('check_input', 'allow_partial', 'stops'), [
    (True, False, True), (True, True, False), (False, False, False)])
def test_a_wrong_channel_order_stops_unless_told_otherwise(backbone18, capsys, check_input,
                                                           allow_partial, stops):
    weights = Weights.load(backbone18)
    weights.placed = weights.state
    model = Model(bgr_to_rgb=False)
    model.backbone = loaded({'type': 'torchvision.resnet18'}, weights.state)
    hook = HandoffHook(TRANSFER_TARGETS.get('mmseg')(), weights, check_input, allow_partial)
    runner = SimpleNamespace(model=model, logger=logging.getLogger('test'))
    if stops:
        with pytest.raises(UsageError, match='channel order'):
            hook.after_init_weights(runner)
    else:
        hook.after_init_weights(runner)
        assert hook.report['features']['differences'] == [0.0] * 4
        assert 'function check: stages 1–4 of 4' in capsys.readouterr().out
