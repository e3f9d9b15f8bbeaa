"""Weights to start from, and a run that started from some."""
from __future__ import annotations

import pytest
import timm
import torch

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.weights.backbone_file import save_backbone

RESNET, SMALL_ONE = {'type': 'torchvision.resnet18'}, {'type': 'timm.test_resnet'}
FACTS = {'method': 'other', 'mean': [10.0, 20.0, 30.0],
         'std': [40.0, 50.0, 60.0], 'channel_order': 'BGR', 'epochs': 3, 'data': 'elsewhere'}
TINY = ['views.0.size=32', 'views.1.size=32', 'model.projection=16', 'log_interval=1',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0']


def grown(network: dict) -> torch.nn.Module:
    """A network whose statistics and scales are those of no initialization."""
    torch.manual_seed(1)
    backbone = build_backbone(network)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    return backbone


def export_of(network, path):
    save_backbone(path, grown(network).state_dict(), {**FACTS, 'backbone': network})
    return path


@pytest.fixture(scope='session')
def resnet(tmp_path_factory):
    return export_of(RESNET, tmp_path_factory.mktemp('exported') / 'resnet.pth')


@pytest.fixture(scope='session')
def exported(tmp_path_factory):
    return export_of(SMALL_ONE, tmp_path_factory.mktemp('exported') / 'grown.pth')


@pytest.fixture(scope='session')
def foreign(tmp_path_factory):
    """A whole timm network of a family that is in no table, as its owner saved it."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp('foreign') / 'mobile.pth'
    torch.save(timm.create_model('mobilenetv3_small_050', num_classes=3).state_dict(), path)
    return path


def train(scenes, folder, *more, options=(), network=('model.backbone=None',)):
    return main(['train', 'small/simclr_r18', '--data', str(scenes), '--work-dir', str(folder),
                 '--epochs', '1', *more, '--cfg-options', *TINY, *network, *options])


@pytest.fixture(scope='session')
def started(scenes, exported, tmp_path_factory):
    """A run of three steps from exported weights whose rate is 0."""
    folder = tmp_path_factory.mktemp('started')
    assert train(scenes, folder, '--init', str(exported),
                 options=['schedule.base_lr=0', 'checkpoint.every_epochs=0.34',
                          'checkpoint.keep=9']) == 0
    return folder
