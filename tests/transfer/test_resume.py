"""A fine-tuning run that was stopped goes on, with us and with stock tools."""
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader

from densessl.cli import main
from densessl.engine.hooks import Interrupted
from densessl.engine.runner import newest_checkpoint
from densessl.engine.signals import taken
from densessl.errors import UsageError
from densessl.lock import RunLock
from densessl.transfer.backbone_file import load_weights_only
from densessl.transfer.finetune import finetune
from densessl.transfer.predict import _checkpoint
from densessl.transfer.resume import (
    FinetuneStopHook,
    leap_over,
    newest_of_run,
    plain_message_hub,
)

TWIN = 'downstream/fcn_r18_folder'


@pytest.fixture(scope='module')
def six(tiny):
    """Six iterations, a checkpoint after every three; the rate falls after the 4th and the 5th."""
    return {**tiny, 'train_cfg.max_iters': 6, 'default_hooks.checkpoint.interval': 3,
            'default_hooks.logger.interval': 1}


@pytest.fixture(scope='module')
def whole(six, backbone18, label_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'whole'
    finetune(TWIN, backbone18, label_folder, cfg_options=six, work_dir=folder)
    return folder


def stopped(whole, folder, at=3):
    """What the whole run would have left behind, had it been killed after iteration ``at``."""
    folder.mkdir()
    for name in ('run.json', 'subset.json', 'fcn_r18_folder.py', f'iter_{at}.pth'):
        shutil.copy(whole / name, folder / name)
    (folder / 'last_checkpoint').write_text(str(folder / f'iter_{at}.pth'))
    return folder


def rates(folder):
    """Iteration → learning rate, of the log."""
    lines = [json.loads(line) for path in folder.rglob('scalars.json')
             for line in path.read_text().splitlines()]
    return {line['step']: line['lr'] for line in lines if 'lr' in line}


def test_a_resumed_run_goes_on_as_the_whole_one(whole, six, backbone18, label_folder, tmp_path,
                                                capsys):
    """Iterations, rates, momentum and the order of the images go on; augmentation is drawn anew,
    so the weights are near those of the whole run but not the same."""
    folder = stopped(whole, tmp_path / 'half')
    scores = finetune(TWIN, backbone18, label_folder, cfg_options=six, work_dir=folder, resume=True)
    said = capsys.readouterr().out
    assert '120 of 120 keys loaded' in said     # of the pretrained weights, before the trained ones
    assert 'iter_3.pth after iteration 3' in said and '6/6  loss' in said and '3/6' not in said
    record, first = (json.loads((path / 'scores.json').read_text()) for path in (folder, whole))
    assert record['scores'] == scores and record['resumed_from'] == 'iter_3.pth'
    assert first['resumed_from'] is None and record['handoff'] == first['handoff']
    assert record['iterations'] == first['iterations'] == 6
    assert rates(whole) == pytest.approx({1: .02, 2: .02, 3: .02, 4: .02, 5: .002, 6: .0002})
    assert rates(folder) == {step: rate for step, rate in rates(whole).items() if step > 3}
    begun, went_on, straight = (torch.load(path, weights_only=True) for path in (
        whole / 'iter_3.pth', folder / 'iter_6.pth', whole / 'iter_6.pth'))
    assert went_on['meta']['iter'] == 6
    assert went_on['param_schedulers'] == straight['param_schedulers']
    moved, apart = ((went_on['state_dict']['backbone.conv1.weight']
                     - other['state_dict']['backbone.conv1.weight']).norm()
                    for other in (begun, straight))
    assert 0 < apart < moved


def test_a_run_that_was_not_scored_yet_is_only_scored(whole, six, backbone18, label_folder,
                                                      tmp_path):
    folder = stopped(whole, tmp_path / 'end', at=6)
    finetune(TWIN, backbone18, label_folder, cfg_options=six, work_dir=folder, resume=True)
    record, first = (json.loads((path / 'scores.json').read_text()) for path in (folder, whole))
    assert record['metrics'] == first['metrics'] and record['iterations'] == 6
    with pytest.raises(UsageError, match='other settings'):
        finetune(TWIN, backbone18, label_folder, cfg_options=six, work_dir=folder, seed=1)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
        whole, six, backbone18, label_folder, tmp_path, capsys):
    folder = stopped(whole, tmp_path / 'half')
    shutil.copy(whole / 'iter_6.pth', folder)
    data = bytearray((folder / 'iter_6.pth').read_bytes())
    data[len(data) // 2] ^= 4
    (folder / 'iter_6.pth').write_bytes(data)
    assert _checkpoint(folder).name == 'iter_3.pth'         # of predict
    assert 'using iter_3.pth, the newest that is whole' in capsys.readouterr().out
    with pytest.raises(UsageError, match=r'iter_6\.pth is damaged.*; iter_3\.pth beside it'):
        load_weights_only(folder / 'iter_6.pth')
    options = {**six, 'default_hooks.checkpoint.max_keep_ckpts': 1}
    (folder / 'run.json').write_text(json.dumps({
        **json.loads((folder / 'run.json').read_text()), 'config_hash': 'another'}))
    finetune(TWIN, backbone18, label_folder, cfg_options=options, work_dir=folder, resume=True)
    assert 'iter_6.pth is damaged: ' in capsys.readouterr().out
    assert json.loads((folder / 'scores.json').read_text())['resumed_from'] == 'iter_3.pth'
    assert [path.name for path in folder.glob('iter_*.pth')] == ['iter_6.pth']


def test_what_was_saved_and_is_gone_is_not_begun_anew_in_silence(whole, six, backbone18,
                                                                label_folder, tmp_path):
    folder = stopped(whole, tmp_path / 'half')
    (folder / 'iter_3.pth').unlink()
    with pytest.raises(UsageError, match=r'although last_checkpoint says that one was saved.*'
                                         r'start anew with --overwrite or in another'):
        finetune(TWIN, backbone18, label_folder, cfg_options=six, work_dir=folder, resume=True)
    with RunLock(folder), pytest.raises(UsageError, match='another run is at work in'):
        finetune(TWIN, backbone18, label_folder, cfg_options=six, work_dir=folder, overwrite=True)
    assert (folder / 'last_checkpoint').exists()


def test_stock_tools_go_on_with_a_checkpoint(whole, tmp_path):
    folder = stopped(whole, tmp_path / 'stock')
    cfg = Config.fromfile(whole / 'fcn_r18_folder.py')
    cfg.merge_from_dict({'resume': True, 'work_dir': str(folder), 'experiment_name': 'stock',
                         'visualizer.name': 'stock'})
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 6
    assert rates(folder) == {step: rate for step, rate in rates(whole).items() if step > 3}


@pytest.mark.parametrize(('change', 'words'), [
    ({}, r'already holds a run \(iter_3\.pth\): add --resume to go on, --overwrite to start'),
    ({'resume': True, 'seed': 1}, 'made with seed 0, this run has 1'),
    ({'resume': True, 'fraction': 0.5}, 'made with fraction 1.0, this run has 0.5'),
    ({'resume': True, 'freeze': 1}, 'made with freeze None, this run has 1'),
    ({'resume': True, 'backbone': 'random'}, 'made with backbone .*, this run has random'),
    ({'resume': True, 'options': {'optim_wrapper.optimizer.lr': 0.1}},
     r'iter_3\.pth: it was made with optim_wrapper\.optimizer\.lr 0\.02, this run has 0\.1; give '),
    ({'resume': True, 'options': {'train_cfg.max_iters': 9}}, r'max_iters 6, this run has 9'),
    ({'resume': True, 'overwrite': True}, 'give one'),
    ({'options': {'resume': True}}, 'add --resume to the command'),
])
def test_another_run_is_not_gone_on_with(change, words, whole, six, backbone18, label_folder,
                                         tmp_path):
    folder = stopped(whole, tmp_path / 'half')
    change = {'backbone': backbone18, **change}
    options = {**six, **change.pop('options', {})}
    with pytest.raises(UsageError, match=words):
        finetune(TWIN, data_root=label_folder, cfg_options=options, work_dir=folder, **change)
    assert newest_checkpoint(folder).name == 'iter_3.pth'
    assert json.loads((folder / 'run.json').read_text())['seed'] == 0


@contextmanager
def keeping_signals():
    """A stopped run ends with its process, and until then waits for more signals: not in here."""
    try:
        yield
    finally:
        for signals in reversed(taken.copy()):
            signals.give_back()


def test_a_signal_saves_and_says_how_to_go_on(six, label_folder, tmp_path, monkeypatch, capsys):
    from densessl.transfer import runner as module
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
    assert newest_of_run(tmp_path).name == 'epoch_10.pth'


class Pairs(BatchSampler):
    """Batches of even and of odd indices, as detection groups images by their shape."""

    def __iter__(self):
        groups = ([], [])
        for index in self.sampler:
            group = groups[index % 2]
            group.append(index)
            if len(group) == self.batch_size:
                yield list(group)
                group.clear()


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_that_were_trained_are_leapt_over_unread(workers):
    read = []

    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            read.append(index)
            return index

    def batches(count):
        data = Numbers()
        loader = DataLoader(data, num_workers=workers, batch_sampler=Pairs(
            InfiniteSampler(data, seed=3), batch_size=2, drop_last=False))
        loop = SimpleNamespace(dataloader=loader, iter=count, dataloader_iterator=SimpleNamespace())
        if count:
            leap_over(SimpleNamespace(train_loop=loop))
            loop.dataloader_iterator.skip_iter(count)
        iterator = iter(loader)
        return [next(iterator).tolist() for _ in range(9 - count)]

    whole = batches(0)
    read.clear()
    assert batches(7) == whole[7:]
    assert len(read) == (4 if workers == 0 else 0)


def test_a_message_hub_keeps_what_a_resumed_run_needs():
    hub = {'log_scalars': {'train/loss': object()}, 'resumed_keys': {'best_score': True},
           'runtime_info': {'best_score': np.float64(0.5), 'keep_ckpt_ids': [3, 6], 'cfg': 'long',
                            'dataset_meta': {'classes': ()}, 'best_ckpt': 'best.pth'}}
    assert plain_message_hub(hub) == {
        'log_scalars': {}, 'resumed_keys': dict.fromkeys(
            ('best_score', 'keep_ckpt_ids', 'best_ckpt'), True),
        'runtime_info': {'best_score': 0.5, 'keep_ckpt_ids': [3, 6], 'best_ckpt': 'best.pth'}}
    assert type(plain_message_hub(hub)['runtime_info']['best_score']) is float
