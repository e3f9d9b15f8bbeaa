"""The CPU twin of every method trains, resumes and exports through the ordinary commands."""
from __future__ import annotations

import shutil
import time
from types import SimpleNamespace

import pytest
import torch

from densessl.cli import main
from densessl.config import load_config
from densessl.demo.sample import write_scenes
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.registry import METHODS

TWINS = ['detcon_r18', 'detcon_s_r18', 'simclr_r18', 'moco_r18', 'byol_r18', 'supervised_r18',
         'rotation_r18', 'relative_location_r18', 'jigsaw_r18', 'cpc_r18']

SMALL = {   # patches as small as the views of the others
    'relative_location_r18': ['views.0.patch=32', 'views.0.shift=8', 'views.0.resize=120'],
    'jigsaw_r18': ['views.0.patch=32', 'views.0.shift=8', 'views.0.resize=120'],
    'cpc_r18': ['views.0.grid=4'],
}


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """Twelve scenes in two class folders: labels for the one method that reads them."""
    root = write_scenes(tmp_path_factory.mktemp('classes'), unlabelled=12, train=1, val=1,
                        size=(80, 80)) / 'unlabelled'
    for i, path in enumerate(sorted(root.glob('*.jpg'))):
        folder = root / ('even' if i % 2 == 0 else 'odd')
        folder.mkdir(exist_ok=True)
        shutil.move(path, folder / path.name)
    return root


@pytest.mark.parametrize('twin', TWINS)
def test_trains_resumes_and_exports(twin, images, tmp_path, monkeypatch, tmp_path_factory, capsys):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    monkeypatch.chdir(tmp_path)
    # all runs of this process, whose folders have one name, too, start in the same second
    monkeypatch.setattr('mmengine.runner.runner.time', SimpleNamespace(
        time=lambda: 1e9, localtime=time.localtime, strftime=time.strftime))
    views = load_config(f'small/{twin}').views
    command = ['train', f'small/{twin}', '--data', str(images), '--work-dir', 'run',
               '--epochs', '2', '--resume', '--cfg-options', 'train_dataloader.batch_size=4',
               'log_interval=1',
               'train_dataloader.num_workers=0', 'checkpoint.every_epochs=1',
               *(f'views.{i}.size=64' for i, view in enumerate(views) if 'size' in view),
               *SMALL.get(twin, [])]
    assert main(command) == 0
    whole = read_checkpoint('run/iter_6.pth')['state_dict']
    assert list(tmp_path.glob('run/*/*.log')) and list(tmp_path.glob('run/*/vis_data/scalars.json'))
    (tmp_path / 'run' / 'iter_6.pth').unlink()
    assert main(command) == 0   # goes on after iter_3
    again = read_checkpoint('run/iter_6.pth')
    assert 'run/iter_3.pth after iteration 3' in capsys.readouterr().out
    assert all(torch.equal(value, again['state_dict'][key]) for key, value in whole.items())

    assert main(['export', 'run/iter_6.pth', '--out', 'backbone.pth']) == 0
    exported = torch.load('backbone.pth', weights_only=True)
    for key, value in exported['state_dict'].items():
        assert torch.equal(value, whole[f'backbone.{key}'])
    assert exported['meta']['method'] == load_config(f'small/{twin}').model.type


def test_every_method_has_a_twin():
    methods = {load_config(f'small/{twin}').model.type for twin in TWINS}
    from batches import ALL
    assert methods == {name for name in ALL if METHODS.get(name).__module__.startswith('densessl')
                       and not name.startswith('distill')}     # that needs a teacher
