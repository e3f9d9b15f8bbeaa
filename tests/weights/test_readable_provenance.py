"""What the check of provenance lets pass: what export writes, any network of any library."""
from pathlib import Path

import pytest

from densessl.backbones import without_sources
from densessl.bounds import parameters_of
from densessl.config import config_folders
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.target import TransferTarget
from densessl.weights.backbone_file import load_backbone_file
from densessl.weights.stated_backbone import build_stated, check_stated_backbone

FILE = Path('some/backbone.pth')


@pytest.mark.parametrize('cfg', [
    {'type': 'torchvision.resnet18', 'zero_init_residual': True},
    {'type': 'torchvision.resnet18', 'norm': 'layer'},
    {'type': 'torchvision.resnet18', 'weights': None},
    {'type': 'timm.resnet18', 'norm_layer': 'groupnorm'},
    {'type': 'timm.vit_tiny_patch16_224.augreg_in21k', 'depth': 2, 'img_size': 64},
    {'type': 'timm.convnext_atto', 'depths': (1, 1, 1, 1), 'dims': [8, 16, 16, 16]},
    {'type': 'mmdet.ResNet', 'depth': 18, 'init_cfg': None,
     'norm_cfg': {'type': 'GN', 'num_groups': 32, 'requires_grad': True}},
    {'type': 'mmdet.RegNet', 'arch': 'regnetx_400mf'},
    {'type': 'mmdet.ResNet', 'depth': 18, 'deep_stem': True, 'avg_down': True},
    {'type': 'mmseg.TIMMBackbone', 'model_name': 'convnext_atto', 'pretrained': False,
     'depths': (1, 1, 1, 1), 'dims': (8, 16, 16, 16)},
    {'type': 'mmseg.MixVisionTransformer', 'embed_dims': 16, 'num_layers': [1, 1, 1, 1],
     'act_cfg': {'type': 'GELU'}},
    {'type': 'mmseg.UNet', 'base_channels': 4, 'upsample_cfg': {'type': 'InterpConv'}},
], ids=lambda cfg: '-'.join(map(str, list(cfg.values())[:2])))
def test_what_export_writes_can_be_read(cfg, make_checkpoint, tmp_path):
    done = export_backbone(make_checkpoint(cfg), tmp_path / 'b.pth', safetensors=True)
    for path in (done.path, done.safetensors):
        state, meta = load_backbone_file(path)
        left = build_stated(meta['backbone'], path).load_state_dict(state)
        assert not left.missing_keys and not left.unexpected_keys


def test_every_backbone_of_every_library_may_be_named():
    for library, usual in (('torchvision', 'width'), ('timm', 'in_chans')):
        target = TRANSFER_TARGETS.get(library)()
        names = sorted(target.backbone_names())
        assert all(usual in target.backbone_arguments(name, {}) for name in names[::3])
        for name in names[::100]:
            check_stated_backbone({'type': f'{library}.{name}'}, FILE)
    for library in ('mmdet', 'mmseg'):
        target = TRANSFER_TARGETS.get(library)()
        for name in set(target.backbone_names()) - {'TIMMBackbone'}:
            defaults = {key: value for key, value in parameters_of(
                target.models().module_dict[name]).items() if key not in ('**', 'self')
                and isinstance(value, (bool, int, float, str, list, tuple, dict))}
            check_stated_backbone({'type': f'{library}.{name}', **without_sources(defaults)}, FILE)


def test_every_published_config_states_a_backbone_that_can_be_read():
    from mmengine import Config
    found = 0
    for path in config_folders()[0].rglob('*_r*.py'):
        if 'downstream' not in path.parts:
            backbone = Config.fromfile(str(path)).model.backbone.to_dict()
            check_stated_backbone(without_sources(backbone), path)
            found += 1
    assert found > 15


def test_what_loaded_weights_before_the_training_is_not_stated():
    cfg = {'type': 'a.b', 'weights': 'DEFAULT', 'pretrained': True, 'depth': 5,
           'stem': {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'x'}, 'width': (1, 2)}}
    assert without_sources(cfg) == {'type': 'a.b', 'weights': None, 'pretrained': False, 'depth': 5,
                                    'stem': {'init_cfg': None, 'width': (1, 2)}}


class Own(TransferTarget):
    """A target that says nothing of what files may name."""

    name = 'own'

    def build_backbone(self, name, *, depth=3, **kwargs):
        raise AssertionError('built')


def test_a_target_without_a_list_is_safe(monkeypatch):
    monkeypatch.setitem(TRANSFER_TARGETS.module_dict, 'own', Own)
    with pytest.raises(UsageError, match=r'own gives no list .*Own\.backbone_names'):
        check_stated_backbone({'type': 'own.net'}, FILE)
    monkeypatch.setattr(Own, 'backbone_names', lambda self: ['net'])
    check_stated_backbone({'type': 'own.net', 'depth': 4}, FILE)
    for wrong in ({'name': 'net'}, {'kwargs': 1}, {'other': 1}, {'depth': {'type': 'x'}}):
        with pytest.raises(UsageError, match='must be'):
            check_stated_backbone({'type': 'own.net', **wrong}, FILE)
