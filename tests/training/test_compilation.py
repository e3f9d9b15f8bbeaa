"""torch.compile of the backbones, by backends that need no compiler: the same numbers and keys."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from batches import batch_for, total
from runs import TINY

from densessl.cli import main
from densessl.devices.compilation import compile_backbones
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.errors import UsageError
from densessl.registry import METHODS

pytestmark = pytest.mark.usefixtures('surroundings')
EAGER = 'compile={"backend": "eager"}'


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()


def build(name):
    torch.manual_seed(0)
    method = METHODS.build(dict(type=name, backbone=dict(type='torchvision.resnet18')))
    method.init_weights()
    return method.train()


def test_every_network_runs_compiled_and_gives_the_same_loss():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward
    plain, compiled = build('detcon'), build('detcon')
    keys = list(compiled.state_dict())
    assert compile_backbones(compiled, {'backend': backend}) == 2, 'online and target'
    graphs.clear()                                  # of the small thing that is tried first
    losses = [total(method, batch_for(method)) for method in (plain, compiled)]
    assert graphs, 'nothing was compiled'
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for (key, one), two in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert one.grad is None or torch.equal(one.grad, two.grad), key
    assert list(compiled.state_dict()) == keys


def train(scenes, folder, *options):
    return main(['train', 'small/detcon_r18', '--data', str(scenes), '--work-dir', folder,
                 '--epochs', '1', '--resume', '--cfg-options', *TINY, *options])


def test_a_compiled_run_resumes_and_exports_as_any(scenes, tmp_path, capsys):
    """Its checkpoints are those of a run that is not compiled, and either resumes the other's."""
    assert train(scenes, 'plain') == 0
    assert train(scenes, 'run', EAGER, 'checkpoint.every_epochs=0.34') == 0
    assert '2 networks are compiled' in capsys.readouterr().out
    plain, compiled = (read_checkpoint(f'{run}/iter_3.pth')['state_dict']
                       for run in ('plain', 'run'))
    assert list(plain) == list(compiled)
    assert all(torch.equal(value, compiled[key]) for key, value in plain.items())
    for options in ([EAGER], []):
        (tmp_path / 'run' / 'iter_3.pth').unlink()
        assert train(scenes, 'run', *options) == 0
        assert 'run/iter_2.pth after iteration 2' in capsys.readouterr().out
        again = read_checkpoint('run/iter_3.pth')['state_dict']
        assert all(torch.equal(value, again[key]) for key, value in plain.items())
    for run in ('plain', 'run'):
        assert main(['export', f'{run}/iter_3.pth', '--out', f'{run}.pth']) == 0
    one, two = (torch.load(f'{run}.pth', weights_only=True)['state_dict']
                for run in ('plain', 'run'))
    assert list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize('options, message', [
    ('{"mode": ["a"]}', "compile.mode must be text or None, not ['a']"),
    ('{"backend": "nosuch"}', 'compile: torch.compile does not work'),
    ('{"bakend": "eager"}', "did you mean 'backend'"),
    ('3', 'compile must be True or False or a dict or None, not 3'),
    ('yes', "not 'yes'"),
])
def test_what_cannot_be_compiled_is_one_line(options, message, scenes, tmp_path, capsys):
    assert train(scenes, 'run', f'compile={options}') == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('densessl train: ') and message in error
    assert not list(tmp_path.glob('run/iter_*'))


def test_a_backend_that_fails_is_named():
    def broken(graph, inputs):
        raise OSError('no compiler here')
    with pytest.raises(UsageError, match=r'does not work on this machine .*leave compile out'):
        compile_backbones(build('simclr'), {'backend': broken})


@pytest.mark.slow
def test_a_machine_without_a_compiler(scenes, tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'densessl.cli', 'train', 'small/simclr_r18', '--data', str(scenes),
         '--work-dir', 'run', '--cfg-options', 'compile=True', 'train_dataloader.num_workers=0'],
        capture_output=True, text=True,
        env={**os.environ, 'CXX': '/bin/false', 'TORCHINDUCTOR_CACHE_DIR': str(tmp_path)})
    assert done.returncode == 2, done.stderr
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith('densessl train: compile: ') and 'needs a C++ compiler' in error
