"""The target mmdet: backbones, translation, and the Mask R-CNN twin from weights to AP."""
from __future__ import annotations

import pytest
import torch

from densessl.backbones import build_backbone, feature_stages
from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.finetune.finetune import finetune
from densessl.registry import TRANSFER_TARGETS

TINY = {'train_cfg.max_iters': 2}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('coco'), unlabelled=1, train=4, val=2,
                        size=(96, 96))


@pytest.fixture(scope='module')
def backbone(tmp_path_factory):
    """A backbone file of a ResNet-18, as export writes it."""
    folder = tmp_path_factory.mktemp('backbone')
    torch.manual_seed(0)
    network = build_backbone(dict(type='torchvision.resnet18'))
    facts = dict(densessl='0', method='none', config='none', backbone={
        'type': 'torchvision.resnet18'}, mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375], channel_order='RGB', data='none', images=1, epochs=1, steps=1,
        global_batch=1, seed=0)
    torch.save({'meta': {'densessl': facts, 'iter': 1}, 'state_dict': {
        f'backbone.{key}': value for key, value in network.state_dict().items()}},
        folder / 'checkpoint.pth')
    assert main(['export', str(folder / 'checkpoint.pth'), '--out',
                 str(folder / 'backbone.pth')]) == 0
    return folder / 'backbone.pth'


def test_backbones_by_name():
    stages = feature_stages(build_backbone(dict(type='mmdet.ResNet', depth=18)), 64)
    assert [(s.channels, s.stride) for s in stages] == [(64, 4), (128, 8), (256, 16), (512, 32)]
    with pytest.raises(UsageError, match='ResNet'):
        build_backbone(dict(type='mmdet.ResNett', depth=18))


def test_translation_is_exact_for_plain_resnets_and_refused_elsewhere():
    target = TRANSFER_TARGETS.build(dict(type='mmdet'))
    state = build_backbone(dict(type='torchvision.resnet50')).state_dict()
    theirs = build_backbone(dict(type='mmdet.ResNet', depth=50)).state_dict()
    translated = target.translate(state, 'torchvision.resnet50')
    assert {k: v.shape for k, v in translated.items()} == {k: v.shape for k, v in theirs.items()}
    other = build_backbone(dict(type='timm.regnetx_002')).state_dict()
    with pytest.raises(UsageError, match='no exact translation'):
        target.translate(other, 'timm.regnetx_002')


def test_twin_runs_from_weights_to_box_and_mask_ap(scenes, backbone, tmp_path, capsys):
    scores = finetune('downstream/mask_rcnn_r18_coco', str(backbone), data_root=str(scenes),
                      work_dir=str(tmp_path / 'run'), cfg_options=TINY)
    # after two iterations it finds next to nothing: that is an AP, not an empty dictionary
    assert len(scores) >= 2 and all(0 <= value <= 100 for value in scores.values())
    said = capsys.readouterr().out
    assert '120 of 120 keys loaded' in said and 'function check' in said


def test_missing_pieces_are_listed(tmp_path, backbone):
    with pytest.raises(UsageError, match='annotations'):
        finetune('downstream/mask_rcnn_r18_coco', str(backbone), data_root=str(tmp_path),
                 work_dir=str(tmp_path / 'run'), cfg_options=TINY)
