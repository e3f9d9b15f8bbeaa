"""Old checkpoints go after the new one is there: the stock hook's, a derived one's, the best."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS

from densessl.engine.checkpoint_file import read_checkpoint, write_checkpoint
from densessl.engine.saving import PrunesAfterSaving, SafeHooks


class OutOfPower(BaseException):
    pass


class FakeRunner:
    """What the hook needs of a runner; ``broken`` names a checkpoint whose writing is not survived.
    """

    def __init__(self, folder, epoch=0, iter_=0, hub=None):
        self.work_dir, self.epoch, self.iter = str(folder), epoch, iter_
        self.message_hub = MessageHub(f'{folder}{id(self)}')
        for key, value in (hub or {}).items():
            self.message_hub.update_info(key, value)
        self.logger = SimpleNamespace(info=lambda _: None, error=lambda _: None)
        self.folder, self.broken, self.seen = folder, None, []

    def save_checkpoint(self, out_dir, filename, *args, **kwargs):
        self.seen.append(names(self.folder))
        if filename == self.broken:
            raise OutOfPower
        write_checkpoint({'message_hub': {'runtime_info': dict(self.message_hub.runtime_info)},
                          'state_dict': {'w': torch.ones(9)}}, self.folder / filename)


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def safe(hook):
    """As a runner registers it."""
    runner = object.__new__(SafeHooks)
    runner._hooks = []
    SafeHooks.register_hook(runner, hook)
    return runner._hooks[0]


def hook_of(runner, **options):
    hook = safe(dict(type='CheckpointHook', by_epoch=False, interval=1, **options))
    hook.before_train(runner)
    return hook


def train(hook, runner, steps, scores=None):
    for step in steps:
        runner.iter = step - 1
        hook.after_train_iter(runner, 0)
        runner.iter = step
        if scores:
            hook.after_val_epoch(runner, {'mIoU': scores[step]})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointHook, 'is_last_train_iter', lambda *_: False)
    return tmp_path


def test_the_predecessor_is_there_until_its_successor_is(folder):
    runner = FakeRunner(folder)
    hook = hook_of(runner, max_keep_ckpts=1)
    train(hook, runner, [1, 2])
    assert names(folder) == ['iter_2.pth'] and runner.seen == [[], ['iter_1.pth']]
    runner.broken = 'iter_3.pth'
    with pytest.raises(OutOfPower):
        train(hook, runner, [3])
    assert names(folder) == ['iter_2.pth']
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'iter_2.pth')
    assert read_checkpoint(folder / 'iter_2.pth')['message_hub']['runtime_info'][
        'keep_ckpt_ids'] == [2]


def test_nothing_goes_when_what_was_written_does_not_read_back(folder):
    runner = FakeRunner(folder)
    hook = hook_of(runner, max_keep_ckpts=1)
    train(hook, runner, [1])
    runner.save_checkpoint = lambda out_dir, filename, *_, **__: (folder / filename).touch()
    train(hook, runner, [2])
    assert names(folder) == ['iter_1.pth', 'iter_2.pth']


def test_how_many_are_kept_holds_across_starts(folder):
    """Those of a stop by a signal and of an earlier start, which the hub knows nothing of, count;
    files of other names do not."""
    for name in ('iter_3.pth', 'iter_5.pth', 'iter_7.pth', 'iter_best.pth', 'my_iter_1.pth'):
        write_checkpoint({}, folder / name)
    runner = FakeRunner(folder, iter_=5, hub={'keep_ckpt_ids': [3]})
    hook = hook_of(runner, max_keep_ckpts=2)
    train(hook, runner, [6])        # the 7th is of an attempt that this one does not go on from
    assert names(folder) == ['iter_5.pth', 'iter_6.pth', 'iter_7.pth', 'iter_best.pth',
                             'my_iter_1.pth']
    train(hook, runner, [7, 8])
    assert names(folder) == ['iter_7.pth', 'iter_8.pth', 'iter_best.pth', 'my_iter_1.pth']


def test_what_a_kill_left_unpruned_goes_at_the_next_start(folder):
    """Also when nothing is left to train, and so to save."""
    for step in (4, 5, 6, 7):
        write_checkpoint({}, folder / f'iter_{step}.pth')
    hook_of(FakeRunner(folder, iter_=6), max_keep_ckpts=1)
    assert names(folder) == ['iter_6.pth', 'iter_7.pth']


def test_the_best_is_there_until_a_better_one_is(folder):
    runner = FakeRunner(folder)
    hook = hook_of(runner, max_keep_ckpts=1, save_best='mIoU')
    train(hook, runner, [1, 2], {1: 0.1, 2: 0.3})
    assert names(folder) == ['best_mIoU_iter_2.pth', 'iter_2.pth']
    runner.broken = 'best_mIoU_iter_3.pth'
    with pytest.raises(OutOfPower):
        train(hook, runner, [3], {3: 0.5})
    assert 'best_mIoU_iter_2.pth' in names(folder)


@pytest.mark.parametrize('measures', ['mIoU', ['mIoU', 'coco/AP'], 'auto'])
def test_a_best_that_only_its_own_file_knows_of_is_remembered(measures, folder):
    """Killed after the best was written and before the next ordinary one, which tells of it."""
    def hook_for(runner):
        return hook_of(runner, max_keep_ckpts=1, save_best=measures, rule='greater')
    runner = FakeRunner(folder)
    hook = hook_for(runner)

    def scored(step, score):
        runner.iter = step - 1
        hook.after_train_iter(runner, 0)
        runner.iter = step
        hook.after_val_epoch(runner, {'mIoU': score, 'coco/AP': score})
    scored(1, 0.1)
    before = dict(read_checkpoint(folder / 'iter_1.pth')['message_hub']['runtime_info'])
    scored(2, 0.3)
    write_checkpoint({'message_hub': {'runtime_info': before}}, folder / 'best_mIoU_iter_1.pth')
    runner = FakeRunner(folder, iter_=2, hub=before)
    hook = hook_for(runner)
    key = 'best_score_mIoU' if isinstance(measures, list) else 'best_score'
    assert runner.message_hub.get_info(key) == 0.3
    best = [name for name in names(folder) if name.startswith('best_mIoU')]
    assert best == ['best_mIoU_iter_2.pth']
    scored(3, 0.2)
    assert 'best_mIoU_iter_2.pth' in names(folder)
    scored(4, 0.4)
    assert [name for name in names(folder) if name.startswith('best')] == (
        ['best_coco_AP_iter_4.pth', 'best_mIoU_iter_4.pth'] if isinstance(measures, list)
        else ['best_mIoU_iter_4.pth'])


def test_what_is_published_is_whole_and_holds_what_was_asked_for(folder):
    runner = FakeRunner(folder)
    hook = hook_of(runner, published_keys=['state_dict'])
    train(hook, runner, [1])
    hook.after_train(runner)
    published, = folder.glob('iter_1-*.pth')
    assert list(read_checkpoint(published)) == ['state_dict']
    assert not list(folder.glob('.*'))


def test_derived_hooks_are_made_safe_too_and_others_left_alone():
    @HOOKS.register_module(force=True)
    class OwnCheckpointHook(CheckpointHook):
        own = True

        def _save_checkpoint_with_step(self, runner, step, meta):
            raise AssertionError('deletes first')
    hook = safe(dict(type='OwnCheckpointHook'))
    assert isinstance(hook, PrunesAfterSaving) and hook.own
    assert type(hook)._save_checkpoint_with_step is PrunesAfterSaving._save_checkpoint_with_step
    assert type(safe(dict(type='IterTimerHook'))).__name__ == 'IterTimerHook'
    HOOKS._module_dict.pop('OwnCheckpointHook')


def test_another_folder_of_the_config_is_pruned_as_the_own(folder):
    runner = FakeRunner(folder / 'out' / 'run')
    runner.work_dir = str(folder / 'work' / 'run')
    (folder / 'work' / 'run').mkdir(parents=True)
    hook = hook_of(runner, max_keep_ckpts=1, out_dir=str(folder / 'out'))
    train(hook, runner, [1, 2])
    assert names(folder / 'out' / 'run') == ['iter_2.pth'] and runner.seen == [[], ['iter_1.pth']]
