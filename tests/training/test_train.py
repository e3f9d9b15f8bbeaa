"""The training loop on a handful of drawn scenes: runs, resumes exactly, refuses what is wrong."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import TINY

from densessl.cli import main
from densessl.config import load_config
from densessl.engine.checkpoint_file import newest_checkpoint, read_checkpoint
from densessl.errors import UsageError
from densessl.files.lock import RunLock
from densessl.images.find import find_images
from densessl.masks.find import store_for_training

pytestmark = pytest.mark.usefixtures('surroundings')


def train(scenes, work_dir, *more, options=()):
    return main(['train', 'small/detcon_r18', '--data', str(scenes), '--work-dir', str(work_dir),
                 '--epochs', '2', *more, '--cfg-options', *TINY, *options])


@pytest.fixture(scope='session')
def whole(scenes, tmp_path_factory):
    """A run of two epochs = 6 steps, with a checkpoint after each step."""
    os.environ['DENSESSL_CACHE'] = str(tmp_path_factory.getbasetemp() / 'cache')
    folder = tmp_path_factory.mktemp('whole')
    assert train(scenes, folder, options=['checkpoint.every_epochs=0.34', 'checkpoint.keep=9']) == 0
    return folder


def test_checkpoint_holds_weights_and_plain_facts(whole):
    assert newest_checkpoint(whole).name == 'iter_6.pth'
    checkpoint = read_checkpoint(whole / 'iter_6.pth')   # weights_only
    facts = checkpoint['meta']['densessl']
    assert facts['method'] == 'detcon'
    assert facts['backbone'] == load_config('small/detcon_r18').model.backbone
    assert facts['steps'] == 6 and facts['images'] == 12 and facts['channel_order'] == 'RGB'
    assert facts['mean'] == [123.675, 116.28, 103.53]
    assert 'backbone.layer4.1.conv2.weight' in checkpoint['state_dict']
    assert 'cfg' not in checkpoint['meta'] and 'config' not in checkpoint['meta']
    assert not list(whole.glob('.*.part'))


def test_log_holds_every_interval(whole):
    lines = [json.loads(line) for line in
             next(whole.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert [line['step'] for line in lines] == [2, 4, 6]
    assert all(line['loss'] > 0 and line['images_per_s'] > 0 for line in lines)
    assert list(whole.glob('*/vis_data/events.out.tfevents*')), 'no TensorBoard log'


@pytest.mark.parametrize('after', [1, 4])   # 4 is in the middle of the second epoch
def test_resume_is_exact(after, scenes, whole, tmp_path):
    """A run that stopped after any step ends with the same bits as one that did not."""
    part = tmp_path / 'part'
    part.mkdir()
    os.link(whole / f'iter_{after}.pth', part / f'iter_{after}.pth')
    assert train(scenes, part, '--resume', options=['checkpoint.every_epochs=9']) == 0
    one, two = (read_checkpoint(folder / 'iter_6.pth') for folder in (whole, part))
    assert one['state_dict'].keys() == two['state_dict'].keys()
    for key, value in one['state_dict'].items():
        assert torch.equal(value, two['state_dict'][key]), key
    for p, state in one['optimizer']['state'].items():
        assert torch.equal(state['momentum_buffer'],
                           two['optimizer']['state'][p]['momentum_buffer'])


def test_a_run_goes_on_from_tar_shards(scenes, whole, tmp_path):
    """Begun on files with masks in a store, ended on both in shards: the same bits."""
    masks = load_config('small/detcon_r18').masks.to_dict()
    store, _ = store_for_training(find_images(scenes), masks, is_builder=False)
    assert main(['make_shards', str(scenes), 'shards', '--masks', str(store.root),
                 '--shard-size', '21KB']) == 0
    assert len(list(Path('shards').glob('*.tar'))) > 1
    part = tmp_path / 'part'
    part.mkdir()
    os.link(whole / 'iter_2.pth', part / 'iter_2.pth')
    assert train('shards', part, '--resume', options=['checkpoint.every_epochs=9',
                                                      'train_dataloader.num_workers=1']) == 0
    one, two = (read_checkpoint(folder / 'iter_6.pth') for folder in (whole, part))
    assert one['state_dict'].keys() == two['state_dict'].keys()
    assert all(torch.equal(value, two['state_dict'][key])
               for key, value in one['state_dict'].items())


def test_workers_do_not_change_the_result(scenes, whole, tmp_path):
    assert train(scenes, tmp_path / 'w', options=['train_dataloader.num_workers=2']) == 0
    one, two = (read_checkpoint(folder / 'iter_6.pth') for folder in (whole, tmp_path / 'w'))
    assert all(torch.equal(value, two['state_dict'][key])
               for key, value in one['state_dict'].items())


def test_bfloat16_by_config(scenes, whole, tmp_path):
    """Mixed precision stays close to float32 and leaves float32 weights."""
    assert train(scenes, tmp_path / 'bf16',
                 options=['optim_wrapper.type=BFloat16OptimWrapper']) == 0
    one, two = (read_checkpoint(folder / 'iter_6.pth') for folder in (whole, tmp_path / 'bf16'))
    weights = [(value, two['state_dict'][key]) for key, value in one['state_dict'].items()]
    assert all(a.dtype == b.dtype for a, b in weights)
    assert any(not torch.equal(a, b) for a, b in weights), 'nothing ran in bfloat16'
    losses = [[json.loads(line)['loss'] for line in next(folder.glob('*/vis_data/scalars.json'))
               .read_text().splitlines()] for folder in (whole, tmp_path / 'bf16')]
    # of four images at τ = 0.1: rounded features move it by several percent
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.1)


def test_a_finished_run_is_not_written_over(scenes, whole, capsys):
    assert train(scenes, whole) == 2
    assert 'already holds a run (iter_6.pth): add --resume' in capsys.readouterr().err


def test_resuming_another_run_is_refused(scenes, whole, tmp_path, capsys):
    part = tmp_path / 'part'
    part.mkdir()
    os.link(whole / 'iter_4.pth', part / 'iter_4.pth')
    assert train(scenes, part, '--resume', options=['train_dataloader.batch_size=6']) == 2
    assert 'it was made with global_batch 4, this run has 6' in capsys.readouterr().err
    recipe = load_config('small/detcon_r18')
    for option, message in (
            ('model.temperature=9', f'temperature {recipe.model.temperature}, this run has 9'),
            ('schedule.base_lr=9', f'base_lr {recipe.schedule.base_lr}, this run has 9'),
            ('views.1.flip=0.1', 'views.1.flip 0.5, this run has 0.1'),
            ('train_dataloader.batch_size=2 optim_wrapper.accumulative_counts=2',
             'iterations an update 1, this run has 2')):
        options = option.split()
        assert train(scenes, part, '--resume', '--allow-smaller-negatives', options=options) == 2
        assert message in capsys.readouterr().err


def test_resume_with_nothing_to_resume_starts(scenes, tmp_path):
    assert train(scenes, tmp_path / 'new', '--resume', '--epochs', '1') == 0
    assert newest_checkpoint(tmp_path / 'new').name == 'iter_3.pth'


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(scenes, whole, tmp_path, capsys):
    """With the same bits in the end; and as many are kept as if nothing had been stopped."""
    part = tmp_path / 'part'
    part.mkdir()
    for step in (3, 4, 5, 6):
        shutil.copy(whole / f'iter_{step}.pth', part)
    data = bytearray((part / 'iter_6.pth').read_bytes())
    data[len(data) // 2] ^= 4       # in the weights: read as it is, another number
    (part / 'iter_6.pth').write_bytes(data)
    for name in ('.iter_6.pth.part', '.iter_6.pth.77.part', '.running'):
        (part / name).touch()
    os.utime(part / '.running', (0, 0))
    assert main(['export', str(part / 'iter_6.pth')]) == 2
    assert re.search(r'iter_6\.pth is damaged: .*; iter_5\.pth beside it is whole',
                     capsys.readouterr().err)
    (part / '.running').write_text('{"failed": "in a test"}')
    assert train(scenes, part, '--resume', options=['checkpoint.every_epochs=9',
                                                    'checkpoint.keep=2']) == 0
    said = capsys.readouterr()
    assert re.search(r'iter_6\.pth is damaged: .*; using iter_5\.pth', said.out + said.err)
    one, two = (read_checkpoint(folder / 'iter_6.pth') for folder in (whole, part))
    assert all(torch.equal(value, two['state_dict'][key])
               for key, value in one['state_dict'].items())
    assert sorted(path.name for path in part.iterdir() if path.is_file()) == [
        'detcon_r18.py', 'health.jsonl', 'iter_5.pth', 'iter_6.pth', 'last_checkpoint',
        'pretraining.json', 'report.html']


def test_resuming_what_is_gone_is_refused(scenes, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'last_checkpoint').write_text('run/iter_2.pth')
    assert train(scenes, tmp_path / 'run', '--resume') == 2
    assert ('holds no checkpoint, although last_checkpoint says that one was saved; put it back, '
            'or start anew in another --work-dir') in capsys.readouterr().err
    (tmp_path / 'run' / 'iter_2.pth').write_bytes(b'PK')
    assert train(scenes, tmp_path / 'run', '--resume') == 2
    assert 'iter_2.pth is ' in capsys.readouterr().err


def test_one_run_a_folder_and_one_run_for_all_processes(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('densessl.files.lock.GRACE', 0.1)
    with RunLock(tmp_path / 'run'):
        assert train(scenes, tmp_path / 'run') == 2
    assert 'another run is at work in' in capsys.readouterr().err
    monkeypatch.setenv('WORLD_SIZE', '2')
    for command in (['train', 'small/simclr_r18'],
                    ['finetune', 'downstream/fcn_r18_folder', '--backbone', 'random'],
                    ['benchmark', 'downstream/fcn_r18_folder']):
        assert main([*command, '--work-dir', 'other']) == 2
        assert 'WORLD_SIZE is 2: ' in capsys.readouterr().err
    assert not Path('other').exists()


def test_a_full_disk_is_one_line_and_what_was_saved_stays(scenes, whole, tmp_path, capsys,
                                                          monkeypatch):
    part = tmp_path / 'part'
    part.mkdir()
    shutil.copy(whole / 'iter_5.pth', part)

    def full(content, file):
        file.write(b'the first bytes')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('densessl.engine.checkpoint_file.torch.save', full)
    assert train(scenes, part, '--resume', options=['checkpoint.keep=1']) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f'densessl train: cannot save {part}/iter_6.pth: the disk is full: ')
    assert said.endswith(f'the last good checkpoint is {part}/iter_5.pth: --resume goes on from it')
    assert [path.name for path in part.glob('*.pth')] == ['iter_5.pth']
    assert not list(part.glob('.*'))


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ('touch executed',)
    torch.save({'state_dict': Evil()}, tmp_path / 'evil.pth')
    with pytest.raises(UsageError, match='is not a checkpoint that loads safely'):
        read_checkpoint(tmp_path / 'evil.pth')
    assert not Path('executed').exists()


@pytest.mark.parametrize('arguments, message', [
    (['small/detcon_r18'], 'no images: give any folder of images'),
    (['detcon_r50'], "no images at 'data/imagenet/train': give any folder of images"),
    (['small/detcon_r18', '--data', 'nowhere'], "no images at 'nowhere'"),
    (['small/detcon_r18', '--data', '.'], 'no images'),
    (['nosuch'], "no config 'nosuch'"),
    (['small/detcon_r18', '--data', '.', '--epochs', '0'], '--epochs 0'),
    (['small/detcon_r18', '--data', '.', '--launcher', 'pytorch'], 'torchrun'),
    (['small/detcon_r18', '--cfg-options', 'model.type=nosuch'], "unknown method 'nosuch'"),
    (['small/detcon_r18', '--cfg-options', 'masks.scal=3', '--data', '{scenes}'],
     "did you mean 'scale'"),
    (['small/detcon_r18', '--cfg-options', 'masks.type=felsenszwalb', '--data', '{scenes}'],
     "unknown mask generator 'felsenszwalb'"),
    (['small/detcon_r18', '--cfg-options', 'model.backbone.type=resnet18', '--data', '{scenes}'],
     'TARGET.name'),
    (['small/detcon_r18', '--cfg-options', 'model.backbone.type=torchvision.resnet17', '--data',
      '{scenes}'], 'resnet18'),
    (['small/detcon_r18', '--cfg-options', 'optim_wrapper.type=AmpOptimWrapper', '--data',
      '{scenes}'], 'BFloat16OptimWrapper'),
    (['small/detcon_r18', '--cfg-options', 'optim_wrapper.accumulative_counts=2', '--data',
      '{scenes}'], '--allow-smaller-negatives'),
    (['small/detcon_r18', '--cfg-options', 'optim_wrapper.optimizer.momentun=1', '--data',
      '{scenes}'], "did you mean 'momentum'"),
    (['small/simclr_r18', '--data', '{scenes}', '--work-dir', 'file'], "-dir 'file' is a file"),
    (['small/simclr_r18', '--data', '{scenes}', '--work-dir', 'file/run'], 'file is a file'),
    (['small/simclr_r18', '--data', '{scenes}', '--work-dir', '/proc/run'],
     "--work-dir '/proc/run' cannot be written to: "),
    (['small/simclr_r18', '--cfg-options', 'train_dataloader.batch_size=1', '--data', '{scenes}'],
     'need at least 2 images; a process has 1'),
    (['small/simclr_r18', '--cfg-options', 'max_unreadable=few', '--data', '{scenes}'],
     "max_unreadable must be a number from 0 to 1, not 'few'"),
    (['downstream/fcn_r18_folder', '--data', '{scenes}'],
     'is a downstream config: densessl finetune'),
], ids=lambda value: ' '.join(value)[-40:] if isinstance(value, list) else '')
def test_bad_input_gets_one_line(arguments, message, scenes, capsys):
    Path('file').write_text('')
    assert main(['train', *(a.format(scenes=scenes) for a in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('densessl train: ') and message in error
    assert not list(Path('.').glob('work_dirs/*/iter_*'))


def test_unreadable_images_are_passed_over_and_listed_at_the_end(scenes, tmp_path, capsys):
    shutil.copytree(scenes, 'in')
    names = sorted(path.name for path in Path('in').iterdir())[2:5]
    for name in names:
        Path('in', name).write_bytes(b'not an image')
    command = ['train', 'small/simclr_r18', '--data', 'in', '--epochs', '2', '--cfg-options',
               'views.0.size=64', 'views.1.size=64', 'train_dataloader.batch_size=4',
               'train_dataloader.num_workers=1', 'log_interval=2']
    assert main([*command, '--work-dir', 'refused']) == 1
    assert 'of 12 images cannot be read' in (err := capsys.readouterr().err)
    assert 'more than max_unreadable=0.01 allows' in err.splitlines()[-1]
    assert main([*command, 'max_unreadable=0.3', '--work-dir', 'run']) == 0
    listed = [json.loads(line)[0] for line in Path('run/unreadable.txt').read_text().splitlines()]
    assert sorted(listed) == names
    said = [line for line in capsys.readouterr().out.splitlines() if 'took their places' in line]
    assert len(said) == 1 and '3 of 12 images cannot be read' in said[0]


def test_two_processes_do_what_one_does(scenes, whole, tmp_path):
    """torchrun on two CPU processes with half the batch each, synchronized batch norm and
    gathered targets: the same weights as one process, to rounding."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2',
               '--master_port', '29613', '-m', 'densessl.cli', 'train', 'small/detcon_r18',
               '--data', str(scenes), '--work-dir', 'two', '--epochs', '2', '--launcher', 'pytorch',
               '--cfg-options', *TINY, 'train_dataloader.batch_size=2']
    done = subprocess.run(command, capture_output=True, text=True, timeout=300,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('done: ') == 1, 'rank 0 alone speaks'
    # exactness is shown in double precision (test_dist.py); here the first losses must agree
    one, two = ([json.loads(line)['loss'] for line in next(folder.glob('*/vis_data/scalars.json'))
                 .read_text().splitlines()] for folder in (whole, Path('two')))
    assert two[0] == pytest.approx(one[0], rel=1e-3)
    assert read_checkpoint('two/iter_6.pth')['meta']['densessl']['global_batch'] == 4
