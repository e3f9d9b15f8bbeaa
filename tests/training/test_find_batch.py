"""The largest batch that fits is found by real steps, under a memory limit that is counted here."""
from __future__ import annotations

import pytest
import torch

from densessl.cli import main
from densessl.training import find_batch as finding
from densessl.training.configured import configure
from densessl.training.find_batch import Trial, find_batch, largest
from densessl.training.memory import GIB, CountedMemory, limited_memory

pytestmark = pytest.mark.usefixtures('surroundings')
OPTIONS = {'views.0.size': 32, 'views.1.size': 32}
ARGUMENTS = ['train', 'small/simclr_r18', '--find-batch', '--cfg-options', 'views.0.size=32',
             'views.1.size=32']


def test_the_largest_is_found_whatever_fits():
    for room in range(200):
        tried = []

        def fits(batch, room=room, tried=tried):
            tried.append(batch)
            return batch <= room
        expected = room // 8 * 8 or {0: 0, 1: 0, 2: 2, 3: 2}.get(room, 4)
        assert largest(fits, most=128) == min(expected, 128)
        assert len(tried) == len(set(tried)) and len(tried) <= 11


def test_memory_is_counted_while_tensors_are_alive():
    with CountedMemory(3 * 4000) as counted:
        one = torch.ones(1000)
        view = one.view(10, 100)
        two = one + 1
        assert counted.held == 8000
        del one
        assert counted.held == 8000, 'its view holds it'
        del view
        assert (counted.held, counted.peak) == (4000, 8000)
        two.add_(1)
        with pytest.raises(torch.cuda.OutOfMemoryError, match='out of memory'):
            torch.stack([two, two, two])
    assert counted.held == 4000


def test_it_finds_what_a_limit_holds(monkeypatch, tmp_path):
    """The limit lies between what 16 images take and what 24 would."""
    monkeypatch.setattr(finding, 'TIMED', 1)
    device = torch.device('cpu')
    configured = configure('small/simclr_r18', OPTIONS)
    trial = Trial(configured.cfg, configured.method, device)
    with limited_memory(device, None) as peak:
        peaks = []
        for batch in (8, 16):
            assert trial.seconds(batch, 3) > 0
            peaks.append(peak())
    an_image = (peaks[1] - peaks[0]) / 8
    assert an_image > 2 * 3 * 32 * 32 * 4, 'two float images, at least'
    limit = peaks[1] + 4 * an_image
    said = []
    found = find_batch('small/simclr_r18', options=OPTIONS, memory_limit=limit / GIB,
                       say=said.append)
    assert found.batch == 16 and found.images_per_s > 0
    assert peaks[0] < found.peak <= limit
    assert 'train_dataloader.batch_size=16' in said[-1]
    assert any('24 images: do not fit' in line for line in said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('arguments, code, message', [
    (ARGUMENTS, 2, 'fills the memory of a GPU, and there is none here; with --memory-limit GIB'),
    ([*ARGUMENTS, '--memory-limit', '-1'], 2, '--memory-limit -1: more than 0 GiB'),
    ([*ARGUMENTS, '--memory-limit', '0.001'], 1, 'not even 2 images fit'),
    ([*ARGUMENTS, '--memory-limit', '1', '--launcher', 'slurm'], 2, 'leave --launcher out'),
    (['train', 'small/simclr_r18', '--memory-limit', '1'], 2, 'goes with --find-batch'),
    ([*ARGUMENTS[:3], '--memory-limit', '1', '--cfg-options', 'model.temperatur=1'], 2,
     "did you mean 'temperature'"),
])
def test_what_it_cannot_do_is_one_line(arguments, code, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr('densessl.training.find_batch.get_device', lambda: 'cpu')
    assert main(arguments) == code
    error = capsys.readouterr().err.strip()
    assert message in error and '\n' not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('config', ['small/supervised_r18', 'small/jigsaw_r18', 'small/detcon_r18'])
def test_any_method_takes_the_synthetic_views(config):
    """With labels, views of patches, and masks."""
    configured = configure(config, {'train_dataloader.num_workers': 0})
    assert Trial(configured.cfg, configured.method, torch.device('cpu')).seconds(2, 1) > 0
