"""A fine-tuning run that was stopped goes on, with us and with stock tools."""
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import InfiniteSampler
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader

from densessl.engine.checkpoint_file import newest_checkpoint
from densessl.errors import UsageError
from densessl.files.lock import RunLock
from densessl.finetune.finetune import finetune
from densessl.finetune.predict import _checkpoint
from densessl.finetune.resume import (
    leap_over,
    plain_message_hub,
)
from densessl.finetune.run import FinetuneRun
from densessl.finetune.weights import Weights
from densessl.weights.backbone_file import load_weights_only

TWIN = 'downstream/fcn_r18_folder'


@pytest.fixture(scope='module')
def whole(six, backbone18, label_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'whole'
    finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=six,
                         work_dir=folder))
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
    scores = finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=six,
                                  work_dir=folder), resume=True)
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
    finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=six,
                         work_dir=folder), resume=True)
    record, first = (json.loads((path / 'scores.json').read_text()) for path in (folder, whole))
    assert record['metrics'] == first['metrics'] and record['iterations'] == 6
    with pytest.raises(UsageError, match='other settings'):
        finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=six,
                             work_dir=folder, seed=1))


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
    finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=options,
                         work_dir=folder), resume=True)
    assert 'iter_6.pth is damaged: ' in capsys.readouterr().out
    assert json.loads((folder / 'scores.json').read_text())['resumed_from'] == 'iter_3.pth'
    assert [path.name for path in folder.glob('iter_*.pth')] == ['iter_6.pth']


def test_what_was_saved_and_is_gone_is_not_begun_anew_in_silence(whole, six, backbone18,
                                                                label_folder, tmp_path):
    folder = stopped(whole, tmp_path / 'half')
    (folder / 'iter_3.pth').unlink()
    with pytest.raises(UsageError, match=r'although last_checkpoint says that one was saved.*'
                                         r'start anew with --overwrite or in another'):
        finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=six,
                             work_dir=folder), resume=True)
    with RunLock(folder), pytest.raises(UsageError, match='another run is at work in'):
        finetune(FinetuneRun(TWIN, Weights.load(backbone18), label_folder, options=six,
                             work_dir=folder), overwrite=True)
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
    ({'resume': True, 'weights': None}, 'made with backbone .*, this run has random'),
    ({'resume': True, 'options': {'optim_wrapper.optimizer.lr': 0.1}},
     r'iter_3\.pth: it was made with optim_wrapper\.optimizer\.lr 0\.02, this run has 0\.1; give '),
    ({'resume': True, 'options': {'train_cfg.max_iters': 9}}, r'max_iters 6, this run has 9'),
    ({'resume': True, 'overwrite': True}, 'give one'),
    ({'options': {'resume': True}}, 'add --resume to the command'),
])
def test_another_run_is_not_gone_on_with(change, words, whole, six, backbone18, label_folder,
                                         tmp_path):
    folder = stopped(whole, tmp_path / 'half')
    how = {key: value for key, value in change.items() if key in ('resume', 'overwrite')}
    what = {'weights': Weights.load(backbone18),
            **{key: value for key, value in change.items() if key not in how},
            'options': {**six, **change.get('options', {})}}
    with pytest.raises(UsageError, match=words):
        finetune(FinetuneRun(TWIN, data_root=label_folder, work_dir=folder, **what), **how)
    assert newest_checkpoint(folder).name == 'iter_3.pth'
    assert json.loads((folder / 'run.json').read_text())['seed'] == 0


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
