"""A config is refused as a whole before anything starts: one line, the key first, exit code 2."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from densessl.cli import main
from densessl.config import load_config
from densessl.engine.stop import SAME_REQUEST, StopHook
from densessl.errors import Interrupted, RunFailed, UsageError
from densessl.features.geometry import spread
from densessl.training.config_check import REQUIRED, check_config
from densessl.training.decisive_settings import changes, settings_of
from densessl.training.log import LogValuesHook

WRONG = {
    'train_dataloader.batch_size=-4': 'train_dataloader.batch_size must be a whole number',
    'train_dataloader.batch_size=foo': "not 'foo'",
    'train_dataloader.batch_size=0': 'a whole number from 1 to 1048576',
    'train_dataloader.num_workers=-1': 'train_dataloader.num_workers must be',
    'seed=-1': 'seed must be a whole number from 0 to 4294967295',
    'seed=foo': "not 'foo'",
    'seed={"a":1}': '--cfg-options seed: ',
    'log_interval=0': 'log_interval must be',
    'train_dataloader=3': 'train_dataloader must be a dict',
    'optim_wrapper.optimizer=3': 'optim_wrapper.optimizer must be a dict with a type',
    'optim_wrapper.optimizer.lr=9': 'set schedule.base_lr',
    'optim_wrapper.accumulative_counts=0': 'optim_wrapper.accumulative_counts must be',
    'optim_wrapper.acumulative_counts=2': "did you mean 'accumulative_counts'",
    'optim_wrapper.type=OptimWraper': "did you mean 'OptimWrapper'",
    'optim_wrapper.constructor=Foo': "optim_wrapper.constructor 'Foo' is unknown",
    'views.0.size=big': "views[0]: size must be a whole number from 1 to 4096, not 'big'",
    'views.0.flip=yes': "views[0]: flip must be a number from 0 to 1, not 'yes'",
    'views.0.gray=2': 'views[0]: gray must be a number from 0 to 1, not 2',
    'views.0.ratio=3': 'ratio must be 2 values, each a number from 0.01 to 100, in ascending order',
    'views.0.blur.sigma=[2,1]': 'from 0.01 to 1000, in ascending order, not [2, 1]',
    'views.0.blur=1': 'views[0]: blur must be a dict of p, sigma',
    'views.1.solarize={"p":3}': 'views[1]: solarize.p must be a number from 0 to 1, not 3',
    'views.1.jitter={"p":1,"hu":0.1}': "did you mean 'hue'",
    'views.0.blur={"p":1,"sigma":[0,0]}': 'views[0]: blur.sigma must be 2 values',
    'views.0.blur={"p":1,"sigma":[1,2],"kernel":-1}':
        'blur.kernel must be a whole number from 1 to 255 that is odd',
    'views=3': 'views must be a list, each a dict, not 3',
    'normalization={"blur_kernel":-1}': 'normalization.blur_kernel is now a key of each view',
    'normalization.mean=[1,2]': 'normalization.mean must be 3 values, each a number from 0 to 255',
    'checkpoint.every_epochs=0': 'checkpoint.every_epochs must be a number above 0',
    'checkpoint.keep=0': 'checkpoint.keep must be',
    'model.temperature=0': 'model.temperature must be a number above 0',
    'model.stage=7': 'stage 7: the backbone',
}


@pytest.mark.parametrize('option', WRONG)
def test_a_wrong_value_gets_one_line(option, tmp_path, monkeypatch, capsys):
    from PIL import Image
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'in').mkdir()
    Image.new('RGB', (40, 40)).save('in/a.png')
    assert main(['train', 'small/detcon_r18', '--data', 'in', '--cfg-options', option]) == 2
    error, = capsys.readouterr().err.strip().splitlines()[-1:]
    assert error.startswith('densessl train: ') and WRONG[option] in error
    assert not list(tmp_path.glob('work_dirs/*/iter_*'))


@pytest.mark.parametrize('key', REQUIRED)
def test_what_is_missing_is_named(key):
    cfg = load_config('small/detcon_r18')
    cfg.pop(key)
    with pytest.raises(UsageError, match=f'it has no {key}'):
        check_config(cfg, 'mine')


def test_settings_say_what_was_changed():
    was = settings_of(load_config('small/detcon_r18'))
    now = settings_of(load_config('small/detcon_r18', {
        'model.temperature': 0.2, 'views.0.area': (0.5, 1.0), 'model.hard': False}))
    assert changes(was, was) == []
    assert changes(was, now) == [('model.temperature', 0.1, 0.2),
                                 ('views.0.area', '[0.2, 1.0]', '[0.5, 1.0]'),
                                 ('model.hard', None, False)]


def test_spread_of_dead_and_of_single_features():
    assert spread(torch.zeros(4, 8, 2, 2)) == 0, 'a dead backbone'
    assert spread(torch.ones(4, 8, 2, 2)) < 1e-3
    assert 0.5 < spread(torch.randn(64, 8, 1, 1)) <= 1


def runner_at(iteration, accumulate=1):
    saved = []
    return SimpleNamespace(
        iter=iteration, work_dir='.', saved=saved,
        optim_wrapper=SimpleNamespace(_accumulative_counts=accumulate),
        save_checkpoint=lambda folder, name, by_epoch: saved.append(name))


def test_a_run_stops_between_updates_never_within_one():
    hook = StopHook()
    hook.asked = 2
    within = runner_at(0, accumulate=2)
    hook.after_train_iter(within, 0)
    assert within.saved == []
    between = runner_at(1, accumulate=2)
    with pytest.raises(Interrupted):
        hook.after_train_iter(between, 1)
    assert between.saved == ['iter_2.pth']


def test_signals_that_say_the_same_are_one_request(monkeypatch):
    now, raised = [100.0], []
    monkeypatch.setattr('densessl.engine.stop.time.monotonic', lambda: now[0])
    monkeypatch.setattr('densessl.engine.stop.signal.raise_signal', raised.append)
    hook = StopHook()
    hook._ask(15, None)
    hook._ask(2, None)
    assert hook.asked == 15 and raised == []
    now[0] += SAME_REQUEST + 1
    hook._ask(2, None)
    assert raised == [2]


def test_no_checkpoint_of_a_loss_that_is_not_finite():
    hook = LogValuesHook(50, 4)
    hook.pending = [{'loss': torch.tensor(1.0)}]
    hook.before_save_checkpoint(runner_at(7), {})
    hook.pending.append({'loss': torch.tensor(float('nan'))})
    with pytest.raises(RunFailed, match='not finite around iteration 8'):
        hook.before_save_checkpoint(runner_at(7), {})


def test_an_error_of_a_loader_worker_is_one_line(monkeypatch, capsys):
    from densessl.commands import plugins

    def fail(args):
        raise RunFailed('Caught RunFailed in DataLoader worker process 0.\nOriginal Traceback …\n'
                        '  File "x.py"\ndensessl.errors.RunFailed: the mask a.png is damaged\n')
    monkeypatch.setattr(plugins, 'run', fail)
    assert main(['plugins']) == 1
    assert capsys.readouterr().err == 'densessl plugins: the mask a.png is damaged\n'
