"""Fixtures of many tests: a pretraining checkpoint and a labelled data set, both tiny."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.backbones import build_backbone
from densessl.export.export import export_backbone


def provenance(backbone, **changes):
    return {'densessl': '0.1.0', 'method': 'some_method', 'config': 'some_config',
            'backbone': backbone, 'mean': [120.0, 110.0, 100.0], 'std': [60.0, 61.0, 62.0],
            'channel_order': 'RGB', 'data': 'photos', 'images': 3, 'epochs': 2, 'steps': 5,
            'global_batch': 8, 'seed': 0, **changes}


def trained(cfg):
    """A backbone with statistics and scales as training leaves them: none of them neutral."""
    torch.manual_seed(0)
    backbone = build_backbone(cfg)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    return backbone


@pytest.fixture(scope='session')
def make_checkpoint(tmp_path_factory):
    """(backbone config, **changes of its provenance) → path of a training checkpoint."""
    def make(cfg, **changes):
        path = tmp_path_factory.mktemp('checkpoint') / 'iter_5.pth'
        state = {f'backbone.{key}': value for key, value in trained(cfg).state_dict().items()}
        torch.save({'meta': {'densessl': provenance(cfg, **changes), 'iter': 5},
                    'state_dict': {**state, 'projector.weight': torch.zeros(2)},
                    'optimizer': {'state': {}}}, path)
        return path
    return make


@pytest.fixture(scope='session')
def checkpoint18(make_checkpoint):
    return make_checkpoint({'type': 'torchvision.resnet18'})


@pytest.fixture(scope='session')
def backbone18(checkpoint18):
    return export_backbone(checkpoint18).path


@pytest.fixture(scope='session')
def backbone50(make_checkpoint):
    return export_backbone(make_checkpoint({'type': 'torchvision.resnet50'})).path


def draw_label_folder(root, sizes=(('train', 6), ('val', 2)), classes=True, suffix='.png',
                      side=48):
    """Two squares (ids 1 and 2) on a ground (id 0), a border of id 255 without label."""
    rng = np.random.default_rng(0)
    for split, number in sizes:
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            label = np.zeros((side, side), np.uint8)
            label[8:20, 8:30], label[24:44, 10:40], label[:2] = 1, 2, 255
            image = rng.integers(0, 80, (side, side, 3), dtype=np.uint8)
            image[label == 1, 0] += 150
            image[label == 2, 2] += 150
            Image.fromarray(image).save(root / 'images' / split / f'{i}{suffix}')
            Image.fromarray(label).save(root / 'labels' / split / f'{i}.png')
    if classes:
        (root / 'classes.json').write_text(json.dumps({'classes': ['ground', 'red', 'blue']}))
    return root


@pytest.fixture(scope='session')
def label_folder(tmp_path_factory):
    return draw_label_folder(tmp_path_factory.mktemp('labelled'))


@pytest.fixture(scope='session')
def tiny():
    """Overrides that make the CPU twin tiny: 64 px crops, batch 2, no workers."""
    return {'train_cfg.max_iters': 3, 'train_dataloader.batch_size': 2,
            'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0,
            'model.data_preprocessor.size': (64, 64),
            'train_dataloader.dataset.pipeline.3.crop_size': (64, 64)}


@pytest.fixture
def classes():
    """The classes.json of what `planted_faults` draws."""
    return json.dumps({'classes': ['ground', 'upper', 'lower']})


@pytest.fixture(scope='module')
def six(tiny):
    """Six iterations, a checkpoint after every three; the rate falls after the 4th and the 5th."""
    return {**tiny, 'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 3,
            'default_hooks.logger.interval': 1}
