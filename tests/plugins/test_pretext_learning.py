"""Each task is learned well above chance on the built-in sample, through the ordinary command."""
from __future__ import annotations

import json

import pytest

from densessl.cli import main
from densessl.demo.sample import write_scenes

# twin: options of its run (about 70 updates of small patches), chance, what must be reached
TASKS = {
    'rotation_r18': (['views.0.size=64'], 6, 1 / 4, 0.45),
    'relative_location_r18': (['views.0.patch=32', 'views.0.shift=8', 'views.0.resize=130',
                               'global_batch=16'], 6, 1 / 8, 0.2),
    'jigsaw_r18': (['views.0.patch=32', 'views.0.shift=8', 'views.0.resize=121',
                    'global_batch=16'], 6, 1 / 32, 0.15),
    'cpc_r18': (['views.0.grid=4'], 6, 1 / (16 * 16), 3 / (16 * 16)),
}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=192, train=1, val=1,
                        size=(120, 120)) / 'unlabelled'


@pytest.mark.slow
@pytest.mark.parametrize('twin', TASKS)
def test_learns_well_above_chance(twin, scenes, tmp_path, monkeypatch, tmp_path_factory):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    options, epochs, chance, reached = TASKS[twin]
    assert main(['train', f'small/{twin}', '--data', str(scenes), '--work-dir', str(tmp_path),
                 '--epochs', str(epochs), '--cfg-options', 'log_interval=1',
                 'train_dataloader.num_workers=0', *options]) == 0
    log, = tmp_path.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    accuracies = [row['accuracy'] for row in rows if 'accuracy' in row]
    last = accuracies[-len(accuracies) // 4:]
    assert reached > 1.5 * chance and sum(last) / len(last) > reached
