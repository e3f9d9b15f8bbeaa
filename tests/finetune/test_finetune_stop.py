"""A fine-tuning run that is asked to stop saves what it trained and says how to go on."""
import multiprocessing
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook

from densessl.cli import main
from densessl.engine.checkpoint_file import newest_checkpoint
from densessl.errors import Interrupted
from densessl.finetune.resume import FinetuneStopHook
from densessl.machine.signals import ProcessSignals

TWIN = 'downstream/fcn_r18_folder'


@contextmanager
def keeping_signals():
    """A stopped run ends with its process, and until then waits for more signals: not in here."""
    try:
        yield
    finally:
        for signals in reversed(ProcessSignals.in_force.copy()):
            signals.give_back()


def test_a_signal_saves_and_says_how_to_go_on(six, label_folder, tmp_path, monkeypatch, capsys):
    from densessl.finetune import runner as module
    after = module.ProgressHook.after_train_iter

    def signalled(hook, runner, *args, **kwargs):
        after(hook, runner, *args, **kwargs)
        if runner.iter == 1:
            signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(module.ProgressHook, 'after_train_iter', signalled)
    arguments = ['finetune', TWIN, '--backbone', 'random', '--data-root', str(label_folder),
                 '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                 *(f'{key}={value}' for key, value in six.items())]
    with keeping_signals():
        assert main(arguments) == 1
    assert 'stopped after iteration 2; add --resume to the command' in capsys.readouterr().err
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == str(tmp_path / 'run/iter_2.pth')
    assert torch.load(tmp_path / 'run/iter_2.pth', weights_only=True)['meta']['iter'] == 2
    monkeypatch.undo()
    assert main([*arguments, '--debug', '--resume']) == 0
    assert 'after iteration 2' in capsys.readouterr().out
    assert not list((tmp_path / 'run').glob('.*.part'))


def signalled_group(task):
    """A signal to the whole group, the run and its helper, by another process."""
    subprocess.run(['kill', str(os.getppid()), str(os.getpid())], check=True)
    time.sleep(0.2)
    return task


@pytest.mark.slow
def test_helpers_of_an_evaluation_outlive_a_signal_to_the_group(six, label_folder, tmp_path,
                                                                monkeypatch, capsys):
    from mmseg.evaluation import IoUMetric
    compute = IoUMetric.compute_metrics

    def by_helpers(metric, results):
        pool = multiprocessing.get_context('fork').Pool(2)     # as MMDetection's: never terminated
        assert pool.map(signalled_group, range(3), chunksize=1) == [0, 1, 2]
        pool.close()
        return compute(metric, results)
    monkeypatch.setattr(IoUMetric, 'compute_metrics', by_helpers)
    arguments = ['finetune', TWIN, '--backbone', 'random', '--data-root', str(label_folder),
                 '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                 *(f'{key}={value}' for key, value in six.items())]
    assert main([*arguments, 'train_cfg.val_interval=6']) == 0     # it was over then
    assert 'mIoU' in capsys.readouterr().out
    with keeping_signals():
        assert main([*arguments, 'train_cfg.val_interval=3', '--overwrite']) == 1
    assert 'stopped after iteration 4' in capsys.readouterr().err


def test_a_stop_within_an_evaluation_saves_what_was_trained_not_its_average(tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    average = EMAHook(ema_type='ExponentialMovingAverage')
    average.before_run(SimpleNamespace(model=model))
    model.weight.data.fill_(1.0)
    average.ema_model.module.weight.data.fill_(9.0)
    saved = {}

    def save_checkpoint(*args, **kwargs):
        saved['state_dict'] = {key: value.clone() for key, value in model.state_dict().items()}
        average.before_save_checkpoint(runner, saved)      # exchanges them, for use of the average
    runner = SimpleNamespace(iter=3, hooks=[average], work_dir=str(tmp_path), train_loop=None,
                             save_checkpoint=save_checkpoint)
    average.before_val_epoch(runner)
    hook = FinetuneStopHook()
    hook.asked = signal.SIGTERM
    with pytest.raises(Interrupted):
        hook.after_val_iter(runner, 0)
    assert saved['state_dict']['weight'] == 9 and saved['ema_state_dict']['module.weight'] == 1


def test_a_run_of_epochs_goes_on_from_a_whole_one(tmp_path):
    from mmengine.runner import EpochBasedTrainLoop
    loop = object.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(train_loop=loop, work_dir=str(tmp_path), iter=7, hooks=[],
                             optim_wrapper=SimpleNamespace(_accumulative_counts=1))
    hook = FinetuneStopHook()
    hook.asked = signal.SIGTERM
    with pytest.raises(Interrupted, match='iteration 8, within the first epoch: nothing is saved'):
        hook.after_train_iter(runner, 7)
    for name in ('epoch_9.pth', 'epoch_10.pth'):
        (tmp_path / name).touch()
    with pytest.raises(Interrupted, match=r'add --resume to the command to go on from epoch_10'):
        hook.after_val_iter(runner, 0)
    assert newest_checkpoint(tmp_path).name == 'epoch_10.pth'
