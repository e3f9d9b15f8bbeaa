"""What the backends may do is said by the config, holds while a run trains, and not after it."""
from __future__ import annotations

import pytest
import torch
from runs import TINY

from densessl.cli import main
from densessl.training import backends
from densessl.training.backends import Backends


def state():
    return (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic,
            torch.are_deterministic_algorithms_enabled())


@pytest.mark.parametrize('said, expected, words', [
    ({}, (False, True, True, False, False), 'TF32 in convolutions, cuDNN tries its algorithms'),
    ({'tf32': True, 'cudnn_benchmark': False}, (True, True, False, False, False),
     'TF32 in convolutions and matrix products, cuDNN does not try algorithms'),
    ({'tf32': False, 'deterministic': True, 'seed': 3}, (False, False, False, True, True),
     'no TF32, deterministic'),
])
def test_they_hold_within_and_not_after(said, expected, words, monkeypatch):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    before = state()
    with Backends.of(said).applied():
        assert state() == expected
    assert state() == before
    assert str(Backends.of(said)) == words


@pytest.mark.usefixtures('surroundings')
def test_a_run_trains_under_what_its_config_says(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    seen, before = [], state()
    original = backends._set
    monkeypatch.setattr(backends, '_set',
                        lambda **values: (original(**values), seen.append(state())))
    assert main(['train', 'small/simclr_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--epochs', '1', '--cfg-options', *[one for one in TINY if 'model' not in one],
                 'deterministic=True', 'tf32=True']) == 0
    assert seen == [(True, True, False, True, True), before]
    assert 'on cpu (TF32 in convolutions and matrix products, deterministic)' in \
        capsys.readouterr().out


@pytest.mark.parametrize('option, message', [
    ('tf32=often', "tf32 must be True or False or 'convolutions', not 'often'"),
    ('env_cfg.cudnn_benchmark=True', 'it is a key of its own, cudnn_benchmark'),
    ('deterministic=1', 'deterministic must be True or False, not 1'),
])
@pytest.mark.usefixtures('surroundings')
def test_what_means_nothing_is_refused(option, message, scenes, tmp_path, capsys):
    assert main(['train', 'small/simclr_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--cfg-options', option]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()
