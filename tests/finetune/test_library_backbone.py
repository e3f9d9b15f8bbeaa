"""Networks that a detector's or segmentor's library does not have, taken into its models."""
import json
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS

import densessl
from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.finetune import finetune
from densessl.finetune.run import FinetuneRun
from densessl.finetune.weights import Weights, fit_backbone
from densessl.transfer.library_backbone import LibraryBackbone, check_channels, register
from densessl.weights.backbone_file import load_backbone_file

CONFIGS = Path(densessl.__file__).parents[1] / 'configs' / 'downstream'
NETWORK = 'timm.mobilenetv3_small_050'
CHANNELS = [8, 16, 24, 288]    # of its maps


def config(folder, base, text):
    path = folder / 'own.py'
    path.write_text(f"_base_ = {str(CONFIGS / base)!r}\nmodel = dict({text})\n")
    return path


def backbone(network, **more):
    return dict(_delete_=True, type='LibraryBackbone', network=network, **more)


@pytest.fixture(scope='module')
def exported(make_checkpoint):
    return export_backbone(make_checkpoint({'type': NETWORK})).path


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=0, train=2, val=1,
                        size=(64, 64))


@pytest.mark.slow
def test_a_network_of_timm_is_checked_and_trains_in_a_detector(exported, sample, tmp_path):
    own = config(tmp_path, 'retinanet_r18_coco.py',
                 f'backbone={backbone(NETWORK)}, neck=dict(in_channels={CHANNELS})')
    options = {'train_cfg.max_iters': 2, 'train_dataloader.batch_size': 2,
               'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}
    finetune(FinetuneRun(str(own), Weights.load(exported), sample, work_dir=tmp_path / 'run',
                         options=options))
    state, _ = load_backbone_file(exported)
    handoff = json.loads((tmp_path / 'run' / 'scores.json').read_text())['handoff']
    assert handoff['keys'] == {'loaded': len(state), 'missing': 0, 'added': 0, 'unexpected': 0,
                               'mismatched': 0, 'altered': 0}
    assert handoff['features'] == {'stages': 4, 'restrided': False, 'differences': [0.0] * 4}
    assert handoff['input'] < 1e-5
    trained = torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=True)['state_dict']
    moved = [key for key, value in state.items() if key.endswith('weight')
             and not torch.equal(value, trained[f'backbone.network.{key}'])]
    assert len(moved) == sum(key.endswith('weight') for key in state)
    written = Config.fromfile(tmp_path / 'run' / 'own.py')    # for the library's own tools
    assert written.model.backbone.network == NETWORK
    assert 'densessl_plugins.mmdet.in_configs' in written.custom_imports.imports


def test_a_network_of_torchvision_is_checked_in_a_segmentor(make_checkpoint, label_folder, tiny,
                                                            tmp_path):
    network = 'torchvision.shufflenet_v2_x0_5'
    own = config(tmp_path, 'fcn_r18_folder.py',
                 f'backbone={backbone(network)}, decode_head=dict(in_channels=1024, in_index=-1)')
    weights = export_backbone(make_checkpoint({'type': network})).path
    finetune(FinetuneRun(str(own), Weights.load(weights), label_folder, work_dir=tmp_path / 'run',
                         options={**tiny, 'train_cfg.max_iters': 1}))
    handoff = json.loads((tmp_path / 'run' / 'scores.json').read_text())['handoff']
    assert handoff['keys']['missing'] == 0 and max(handoff['features']['differences']) == 0


def fitted(tmp_path, weights, text, base='retinanet_r18_coco.py'):
    cfg, target = read_downstream_config(str(config(tmp_path, base, text)))
    weights = Weights.load(weights)
    fit_backbone(cfg, target, weights, (), None, False)
    return weights


def test_weights_are_translated_for_the_network_inside(backbone18, tmp_path):
    placed = fitted(tmp_path, backbone18, f'backbone={backbone("timm.resnet18")}').placed
    assert all(key.startswith('network.') for key in placed) and len(placed) == 120
    with pytest.raises(UsageError, match=r'no exact translation of .torchvision\.resnet18. to timm'
                                         r'|do not fit'):
        fitted(tmp_path, backbone18, f'backbone={backbone(NETWORK)}, '
                                     f'neck=dict(in_channels={CHANNELS})')


def test_a_network_without_translation_is_told_how_it_gets_in(exported, tmp_path):
    with pytest.raises(UsageError, match=rf"type='LibraryBackbone', network='{NETWORK}'") as error:
        fitted(tmp_path, exported, 'backbone=dict(depth=18)')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('text', 'words'), [
    (f'backbone={backbone(NETWORK)}', r'in_channels .* \[64, 128, 256, 512\], but the maps of '
                                      rf'{NETWORK} have \[8, 16, 24, 288\] channels'),
    (f'backbone={backbone(NETWORK, out_indices=(2, 3))}, neck=dict(in_channels={CHANNELS})',
     r'have \[24, 288\] channels'),
    (f'backbone={backbone(NETWORK, out_indices=(4,))}', r'the network has 4 maps, 0 to 3'),
    ("backbone=dict(_delete_=True, type='LibraryBackbone')", r'network of the config: None'),
    (f'backbone={backbone("timm.mobilenetv3_smal_050")}', r'unknown timm model'),
    (f'backbone={backbone("tim.resnet18")}', r'tim'),
])
def test_a_wrong_config_is_one_clear_line(text, words, exported, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        fitted(tmp_path, exported, text)
    assert '\n' not in str(error.value)


def test_it_gives_the_maps_of_the_network_and_is_registered_once():
    register()
    register()
    assert MODELS.get('LibraryBackbone') is LibraryBackbone
    whole = LibraryBackbone(NETWORK).eval()
    chosen = LibraryBackbone(NETWORK, out_indices=(0, 3)).eval()
    chosen.load_state_dict(whole.state_dict())
    image = torch.randn(1, 3, 64, 64)
    maps = whole(image)
    assert [map_.shape[1] for map_ in maps] == CHANNELS
    assert all(torch.equal(*pair) for pair in zip(chosen(image), (maps[0], maps[3]), strict=True))
    check_channels({'backbone': {'type': 'mmengine.LibraryBackbone', 'network': NETWORK},
                    'neck': [{'in_channels': CHANNELS}, {'type': 'DyHead', 'in_channels': 8}]})
