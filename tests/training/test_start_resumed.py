"""Runs that start from weights, resumed: what they keep, and what is another run."""
from __future__ import annotations

import pytest
import torch
from starts import FACTS, SMALL_ONE, train

from densessl.backbones import build_backbone
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.weights.backbone_file import load_backbone_file, save_backbone

pytestmark = pytest.mark.usefixtures('surroundings')


def test_the_run_keeps_its_start_and_goes_on_without_the_file(started, scenes, exported, tmp_path):
    """Resumed, it has the bits of a run that was not stopped, and the file need not be there."""
    _, meta = load_backbone_file(started / 'start.pth')
    assert meta['sha256'] == load_backbone_file(exported)[1]['sha256']
    part = tmp_path / 'part'
    part.mkdir()
    for name in ('iter_1.pth', 'start.pth'):
        (part / name).write_bytes((started / name).read_bytes())
    for more in (['--init', 'moved.pth'], []):
        assert train(scenes, part, '--resume', *more, options=['schedule.base_lr=0']) == 0
        one, two = (read_checkpoint(folder / 'iter_3.pth') for folder in (started, part))
        assert all(torch.equal(value, two['state_dict'][key])
                   for key, value in one['state_dict'].items())
        assert two['meta']['densessl']['start'] == one['meta']['densessl']['start']
        (part / 'iter_3.pth').unlink()


def test_a_resumed_run_with_another_start_is_another_run(started, scenes, tmp_path, capsys):
    part = tmp_path / 'part'
    part.mkdir()
    for name in ('iter_1.pth', 'start.pth'):
        (part / name).write_bytes((started / name).read_bytes())
    save_backbone(tmp_path / 'other.pth', build_backbone(SMALL_ONE).state_dict(),
                  {**FACTS, 'backbone': SMALL_ONE})
    assert train(scenes, part, '--resume', '--init', str(tmp_path / 'other.pth'),
                 options=['schedule.base_lr=0']) == 2
    kept = (part / 'start.pth').read_bytes()
    assert 'its run started from other weights (sha256 ' in capsys.readouterr().err
    assert (part / 'start.pth').read_bytes() == kept == (started / 'start.pth').read_bytes()


def test_a_run_from_random_weights_is_not_resumed_from_others(exported, scenes, tmp_path, capsys):
    network = [f'model.backbone.type={SMALL_ONE["type"]}']
    assert train(scenes, 'run', network=network) == 0
    assert train(scenes, 'run', '--resume', '--init', str(exported), network=network) == 2
    assert 'started from random weights; leave --init out' in capsys.readouterr().err
    assert not (tmp_path / 'run' / 'start.pth').exists()
    assert train(scenes, 'run', '--resume', network=network) == 0


def test_a_file_of_somebodys_own_is_left_alone(exported, scenes, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    own = tmp_path / 'run' / 'start.pth'
    own.write_bytes(exported.read_bytes())
    assert train(scenes, 'run', network=[f'model.backbone.type={SMALL_ONE["type"]}']) == 2
    assert 'start.pth is not what a run keeps of its start' in capsys.readouterr().err
    assert own.read_bytes() == exported.read_bytes()


def test_what_an_earlier_run_started_from_is_not_this_ones(started, scenes, tmp_path, capsys):
    """The earlier one ended before its first checkpoint."""
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'start.pth').write_bytes((started / 'start.pth').read_bytes())
    assert train(scenes, 'run', network=()) == 0
    assert not (tmp_path / 'run' / 'start.pth').exists()
    assert train(scenes, 'run', '--resume', network=()) == 0


def test_a_start_that_is_gone_is_asked_for(started, scenes, tmp_path, capsys):
    part = tmp_path / 'part'
    part.mkdir()
    (part / 'iter_1.pth').write_bytes((started / 'iter_1.pth').read_bytes())
    network = [f'model.backbone.type={SMALL_ONE["type"]}']
    assert train(scenes, part, '--resume', network=network, options=['schedule.base_lr=0']) == 2
    assert 'its copy of them, start.pth, is gone; give them with --init' in capsys.readouterr().err
    (part / 'start.pth').write_bytes((started / 'start.pth').read_bytes()[:5000])
    assert train(scenes, part, '--resume', options=['schedule.base_lr=0']) == 2
    assert 'give that again with --init' in capsys.readouterr().err
