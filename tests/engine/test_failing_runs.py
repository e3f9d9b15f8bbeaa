"""Runs that cannot go on say why and what is kept; values that would do nothing are refused."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from limits import files_of_at_most
from mmengine.structures import BaseDataElement, PixelData

from densessl.cli import main
from densessl.engine.checkpoint_file import newest_checkpoint
from densessl.engine.finite import FiniteHook
from densessl.errors import RunFailed
from densessl.training.log import LogValuesHook
from densessl.training.runner import PretrainRunner

SMALL = ['views.0.size=32', 'views.1.size=32', 'train_dataloader.batch_size=4', 'log_interval=1',
         'train_dataloader.num_workers=0',
         'model.backbone={"type": "timm.test_resnet", "_delete_": True}']


def train(scenes, *words, options=()):
    return main(['train', 'small/simclr_r18', '--data', str(scenes), '--work-dir', 'run', *words,
                 '--cfg-options', *SMALL, 'checkpoint.every_epochs=1', *options])


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(scenes, surroundings, monkeypatch,
                                                              capsys):
    save = PretrainRunner.save_checkpoint

    def on_a_full_disk(self, out_dir, filename, *args, **kwargs):
        if filename != 'iter_6.pth':
            return save(self, out_dir, filename, *args, **kwargs)
        with files_of_at_most(10 ** 5):
            return save(self, out_dir, filename, *args, **kwargs)
    monkeypatch.setattr(PretrainRunner, 'save_checkpoint', on_a_full_disk)
    assert train(scenes, '--epochs', '2') == 1
    said = last_line(capsys)
    assert 'cannot save ' in said and '/run/iter_6.pth: ' in said
    assert said.endswith('the last good checkpoint is run/iter_3.pth: --resume goes on from it')
    assert [path.name for path in Path('run').glob('*.pth')] == ['iter_3.pth']
    assert not list(Path('run').glob('.*'))
    monkeypatch.setattr(PretrainRunner, 'save_checkpoint', save)
    assert train(scenes, '--epochs', '2', '--resume') == 0


def test_a_loss_that_is_not_finite_names_the_good_checkpoint(scenes, surroundings, monkeypatch,
                                                             capsys):
    from densessl_plugins.simclr.simclr import SimCLR
    real, calls = SimCLR.loss, []

    def loss(self, views):
        calls.append(1)
        found = real(self, views)
        return {'loss': found['loss'] * (float('nan') if len(calls) > 4 else 1)}
    monkeypatch.setattr(SimCLR, 'loss', loss)
    assert train(scenes, '--epochs', '2') == 1
    said = last_line(capsys)
    assert 'the loss is not finite around iteration 5' in said and 'run/iter_3.pth' in said


@pytest.mark.parametrize('hook', [FiniteHook(), LogValuesHook(50, 4)])
def test_no_checkpoint_of_weights_that_are_not_finite(hook):
    runner = SimpleNamespace(iter=7)
    good = {'a': torch.ones(2), 'count': torch.tensor(3)}
    hook.before_save_checkpoint(runner, {'state_dict': good})
    with pytest.raises(RunFailed, match=r'the weights \(b\) are not finite after iteration 8'):
        bad = {**good, 'b': torch.tensor([float('inf')])}
        hook.before_save_checkpoint(runner, {'state_dict': bad})


def test_nothing_that_is_not_finite_is_scored():
    hook = FiniteHook()
    model = torch.nn.Linear(1, 1)
    runner = SimpleNamespace(iter=7, model=model)
    hook.before_val_epoch(runner)
    sample = BaseDataElement(pred=PixelData(data=torch.zeros(2, 3, 3)), path='a.png')
    hook.after_val_iter(runner, 0, outputs=[sample])
    sample.pred.data[1, 2, 0] = float('nan')
    with pytest.raises(RunFailed, match='the predictions are not finite after iteration 7'):
        hook.after_val_iter(runner, 0, outputs=[sample])
    model.bias.data.fill_(float('inf'))
    with pytest.raises(RunFailed, match=r'the weights \(bias\) are not finite after iteration 7'):
        hook.before_val_epoch(runner)


def test_only_losses_of_fine_tuning_must_be_finite():
    hook, runner = FiniteHook(), SimpleNamespace(iter=7)
    hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.0), 'acc': float('nan')})
    with pytest.raises(RunFailed, match='the loss is not finite around iteration 8'):
        hook.after_train_iter(runner, 0, outputs={'loss_cls': torch.tensor(float('nan'))})


@pytest.mark.parametrize('words, options, message', [
    (['--masks', 'nowhere'], [], '--masks nowhere: simclr takes no region masks'),
    ([], ['train_dataloader.batch_size=13'], 'global_batch 13 is more than the 12 images'),
    ([], ['global_batch=6'], 'makes 4; leave one of the two out'),
    (['--epochs', '2'], ['schedule.warmup_epochs=2'], 'the whole run has 2 epochs'),
    (['--epochs', '2'], ['epochs=3'], '--cfg-options epochs and --epochs 2 contradict each other'),
    ([], ['channels_last=maybe'], "channels_last must be True or False, not 'maybe'"),
    ([], ['sync_bn=1'], 'sync_bn must be True or False, not 1'),
    ([], ['schedule.by_epoch=no'], "schedule.by_epoch must be True or False, not 'no'"),
    ([], ['seed=18446744073709551616'], 'seed must be a whole number'),
    (['--epochs', '18446744073709551616'], [], '--epochs 18446744073709551616: above 0 and at'),
    ([], ['optim_wrapper.optimizer.momentum=1.5'], 'momentum must be a number of at least 0'),
    ([], ['optim_wrapper.clip_grad.max_norm=0'], 'clip_grad.max_norm must be a number above 0'),
    ([], ['model.projection=0'], 'model.projection must be a whole number from 1 to 65536'),
    ([], ['work_dir='], '--cfg-options work_dir and --work-dir run contradict each other'),
])
def test_what_would_do_nothing_is_refused(words, options, message, scenes, surroundings, capsys):
    assert train(scenes, *words, options=options) == 2
    assert message in last_line(capsys) and not list(Path().glob('run/iter_*'))


def test_a_chosen_warm_up_is_taken_as_it_is(scenes, surroundings, capsys):
    assert train(scenes, '--epochs', '2', options=['schedule.warmup_epochs=1']) == 0
    assert '3 warm-up steps' in ''.join(path.read_text() for path in Path('run').glob('*/*.log'))


def test_more_regions_than_random_numbers(scenes, surroundings, capsys):
    assert main(['train', 'small/detcon_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--cfg-options', *SMALL, 'model.num_regions=65']) == 2
    assert 'set uniforms=65' in last_line(capsys)


def test_a_run_does_not_go_on_with_masks_made_in_another_way(scenes, surroundings, capsys):
    for generator in ('grid', 'whole_image'):
        assert main(['make_masks', str(scenes), generator, '--generator', generator]) == 0

    def train_detcon(*words):
        return main(['train', 'small/detcon_r18', '--data', str(scenes), '--work-dir', 'run',
                     '--epochs', '1', *words, '--cfg-options', *SMALL, 'model.num_regions=4'])
    assert train_detcon('--masks', 'grid') == 0
    before = newest_checkpoint(Path('run'))
    assert train_detcon('--masks', 'whole_image', '--resume') == 2
    said = last_line(capsys)
    assert 'it was made with masks made by grid' in said and 'this run has whole_image' in said
    assert newest_checkpoint(Path('run')) == before
    assert train_detcon('--masks', 'grid', '--resume') == 0
