"""Pictures during training: they change nothing, and show what is there."""
from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from runs import TINY
from torch import nn

from densessl.cli import main
from densessl.pictures import dense_features
from densessl.pixels.normalization import normalize
from densessl.training import picture_hook
from densessl.training.picture_hook import PictureHook, features_of, picture_steps
from densessl.views.photometry import ViewPreprocessor

pytestmark = pytest.mark.usefixtures('surroundings')
ONE = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@pytest.fixture
def short_runs(monkeypatch):
    """Short runs have pictures, too: before the first and after the last iteration."""
    monkeypatch.setattr(picture_hook, 'MIN_ITERATIONS', 1)
    monkeypatch.setattr(picture_hook, 'SHARES', (0, 0.5, 1))
    monkeypatch.setattr(picture_hook, 'FINER', 1)


def train(scenes, folder, *options):
    assert main(['train', 'demo/detcon_r18', '--data', str(scenes), '--work-dir', folder,
                 '--epochs', '1', '--quiet', '--cfg-options', *TINY, *options]) == 0


def test_early_steps_are_seen_more_often():
    assert picture_steps(6400) == [0, 200, 400, 800, 1600, 3200, 4800, 6400]
    assert picture_steps(32)[-1] == 32
    assert picture_steps(31) == []


def test_weights_are_the_same_bits_with_and_without(scenes, short_runs, tmp_path):
    train(scenes, 'with', 'pictures=2')
    train(scenes, 'without', 'pictures=0')
    assert not (tmp_path / 'without' / 'pictures').exists()
    made = {path.name for path in (tmp_path / 'with' / 'pictures').iterdir()}
    index = json.loads((tmp_path / 'with' / 'pictures' / 'pictures.json').read_text())
    steps = index['steps']
    assert steps[0] == 0 and len(steps) == 3 and len(index['images']) == 2
    assert made == {'pictures.json', 'image_0.png', 'image_1.png',
                    *(f'sample_{i}_{j}.jpg' for i in range(2) for j in range(3)),
                    *(f'features_{step:08d}.npy' for step in steps),
                    *(f'{kind}_{step:08d}_{i}.png' for kind in picture_hook.KINDS
                      for step in steps for i in range(2))}
    checkpoints = [next((tmp_path / name).glob('iter_*.pth')) for name in ('with', 'without')]
    one, other = (torch.load(path, weights_only=True)['state_dict'] for path in checkpoints)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_pictures_are_of_the_features(tmp_path):
    features = dense_features.unit(np.random.default_rng(0).random((1, 4, 4, 8)))
    for step in (0, 5):
        np.save(tmp_path / f'features_{step:08d}.npy', features.astype(np.float16))
    picture_hook.draw_steps(tmp_path, [0, 5])
    for kind in picture_hook.KINDS:
        first, second = (cv2.imread(str(tmp_path / f'{kind}_{step:08d}_0.png'))
                         for step in (0, 5))
        assert first.shape == (224, 224, 3)
        np.testing.assert_array_equal(first, second)    # the same features: the same colors


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_the_network_gets_the_channels_in_its_order(order):
    facts = dict(mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0), channel_order=order)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)
    found = picture_hook._normalized(pixels, ViewPreprocessor(**facts))
    torch.testing.assert_close(found, normalize(torch.from_numpy(pixels).movedim(-1, 1), facts))


def test_between_its_steps_it_touches_nothing():
    hook = PictureHook([0], ONE, 1, 6400)
    hook.after_train_iter(SimpleNamespace(iter=300), 0)     # any use of a model would fail


def test_features_leave_a_backbone_as_it_was_and_pass_by_hooks():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    backbone[1].eval()      # a frozen one
    backbone.register_forward_hook(lambda *_: pytest.fail('a hook of another was called'))
    state, generator = str(backbone.state_dict()), torch.get_rng_state()
    features = features_of(backbone, torch.randn(2, 3, 8, 8, generator=torch.Generator()))
    assert features.shape == (2, 6, 6, 4)
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, rtol=1e-5)
    assert [m.training for m in backbone] == [True, False, True] and backbone.training
    assert str(backbone.state_dict()) == state
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_resumed_run_keeps_what_was_before_and_a_new_one_nothing(tmp_path):
    hook = PictureHook([0], ONE, 1, 64)
    hook.folder = tmp_path
    names = ['features_00000002.npy', 'pca_00000002_0.png', 'features_00000040.npy',
             'image_0.png', 'mine.txt']
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / 'pictures.json').write_text('{"seconds": 2.5}')
    hook._clear(after=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], 'mine.txt', names[1]]
    assert hook.index == {'seconds': 2.5}
    hook._clear(after=-1)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_an_image_that_cannot_be_read_is_replaced_or_left_out(scenes, short_runs, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for path in scenes.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / 'broken.jpg').write_bytes(b'no image')
    assert main(['train', 'demo/simclr_r18', '--data', str(folder), '--work-dir', 'run', '--epochs',
                 '1', '--quiet', '--cfg-options', *TINY[:2], 'train_dataloader.batch_size=4',
                 'train_dataloader.num_workers=0', 'pictures=16', 'max_unreadable=0.5']) == 0
    index = json.loads((tmp_path / 'run' / 'pictures' / 'pictures.json').read_text())
    assert 'broken.jpg' not in index['images'] and len(index['images']) >= 12
