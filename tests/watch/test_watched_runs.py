"""Runs that are watched: what they write, that nothing of it changes them, and broken ones."""
from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from runs import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from densessl.cli import main
from densessl.config import find_config
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.method import View
from densessl.registry import METHODS
from densessl.watch.labelled import ProbeSettings
from densessl.watch.probe import ProbeScores
from densessl.watch.probe_hook import ProbeHook
from densessl.watch.record import JsonLines, read_lines
from densessl_plugins.byol.byol import BYOL, cosine_regression

pytestmark = pytest.mark.usefixtures('surroundings')
SMALL = ['views.0.size=32', 'views.1.size=32', 'train_dataloader.batch_size=6',
         'train_dataloader.num_workers=0', 'log_interval=2']
HEALTH = {'spread', 'rank_backbone', 'rank_projections', 'alignment', 'uniformity',
          'positive_similarity', 'negative_similarity', 'anchors_with_positive', 'loss_trivial',
          'loss_of_trivial', 'regions_a_view', 'ema_distance', 'gradient', 'update', 'waiting',
          'lr_group0', 'lr_group1'}


def train(scenes, folder, *more, config='small/detcon_r18', epochs=1, options=TINY):
    return main(['train', config, '--data', str(scenes), '--work-dir', str(folder), '--epochs',
                 str(epochs), *more, '--cfg-options', *options])


def derived(folder, name, line):
    """A config that inherits the one of that name and changes a line."""
    path = folder / 'derived.py'
    path.write_text(f"_base_ = [{str(find_config(name))!r}]\n{line}\n")
    return str(path)


def alarms(folder):
    return [line['name'] for line in read_lines(folder / 'alarms.jsonl')
            if line['name'] != 'waiting']       # which a busy machine may raise


@pytest.fixture
def probed(scenes, label_folder, tmp_path):
    folder = tmp_path / 'probed'
    assert train(scenes, folder, '--probe', str(label_folder), options=[
        *TINY, 'probe.interval=2', 'probe.size=128', 'checkpoint.keep_best=True']) == 0
    return folder


def test_a_probed_run_has_the_same_bits_and_writes_what_it_sees(probed, scenes, tmp_path):
    assert train(scenes, tmp_path / 'plain') == 0
    one, two = (read_checkpoint(folder / 'iter_3.pth') for folder in (probed, tmp_path / 'plain'))
    assert one['state_dict'].keys() == two['state_dict'].keys()
    assert all(torch.equal(value, two['state_dict'][key])
               for key, value in one['state_dict'].items())
    # the probe: before the first step, at its interval, and after the last
    probes = read_lines(probed / 'probes.jsonl')
    assert [line['step'] for line in probes] == [0, 2, 3]
    assert all(0 <= line['mIoU'] <= 100 and 0 <= line['propagation'] <= 100 for line in probes)
    assert {line['start'] for line in probes} == {probes[0]['mIoU']}
    best = max(probes[1:], key=lambda line: line['mIoU'])
    assert read_checkpoint(probed / 'best.pth')['meta']['iter'] == best['step']
    # health, under the same names everywhere
    line, = read_lines(probed / 'health.jsonl')
    assert line['step'] == 2 and HEALTH <= set(line)
    assert line['waiting'] == pytest.approx(line['data_time'] / line['time'])
    scalars = [json.loads(text) for text in next(probed.glob('*/vis_data/scalars.json'))
               .read_text().splitlines()]
    logged = next(one for one in scalars if 'loss' in one)
    assert all(logged[name] == pytest.approx(line[name]) for name in HEALTH)
    assert [one['probe/mIoU'] for one in scalars if 'probe/mIoU' in one] == [
        pytest.approx(one['mIoU']) for one in probes]
    board = EventAccumulator(str(next(probed.glob('*/vis_data/events*')).parent))
    assert HEALTH | {'probe/mIoU', 'probe/propagation'} <= set(board.Reload().Tags()['scalars'])
    log = next(probed.glob('*/*.log')).read_text()
    assert 'health: ' in log and 'probe of the start (random weights): mIoU' in log
    assert 'the start (' in log.split('probe after iteration 3')[1]


def test_a_resumed_run_goes_on_with_its_lines(probed, scenes, label_folder):
    before = read_lines(probed / 'probes.jsonl')
    assert train(scenes, probed, '--resume', '--probe', str(label_folder), epochs=1, options=[
        *TINY, 'probe.interval=2', 'probe.size=128']) == 0
    assert read_lines(probed / 'probes.jsonl') == before
    assert [line['step'] for line in read_lines(probed / 'health.jsonl')] == [2]


def test_the_run_ends_after_probes_below_its_start(scenes, label_folder, tmp_path, monkeypatch,
                                                   capsys):
    scores = iter([40.0, 41.0, 39.0, 42.0, 39.0, 38.0, 50.0])
    monkeypatch.setattr('densessl.watch.probe_hook.probe_backbone',
                        lambda *_: ProbeScores(next(scores), 1.0))
    assert train(scenes, tmp_path / 'run', '--probe', str(label_folder), epochs=3, options=[
        *TINY, 'probe.interval=1', 'probe.size=64', 'probe.stop_below_start=2',
        'checkpoint.keep_best=True']) == 1
    said = capsys.readouterr()
    assert 'stopped after iteration 5: the last 2 probes were below the start' in said.err
    assert 'iter_5.pth: --resume goes on from it' in said.err
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'mIoU 41.00, label propagation 1.00; above the start (40.00, +1.00)' in log
    assert 'below the start (40.00, -1.00)' in log
    assert read_checkpoint(tmp_path / 'run' / 'best.pth')['meta']['iter'] == 3


@pytest.mark.parametrize('seconds, update, expected', [(3.0, 0.5, 300), (0.001, 1.0, 1)])
def test_the_default_interval_takes_2_percent(seconds, update, expected):
    said = []
    hook = ProbeHook(ProbeSettings('x'), None, {}, interval=10)
    hook.seconds = seconds
    runner = SimpleNamespace(
        optim_wrapper=SimpleNamespace(_accumulative_counts=1),
        logger=SimpleNamespace(info=said.append), message_hub=SimpleNamespace(
            get_scalar=lambda name: SimpleNamespace(current=lambda: update)))
    assert hook._choose(runner) == expected
    assert f'every {expected} updates (2% of the time)' in said[0]
    assert hook.seconds <= 0.02 * expected * update + 1e-12


def test_probe_data_that_is_not_there_is_refused_and_nothing_is_written(scenes, tmp_path, capsys):
    assert train(scenes, tmp_path / 'run', '--probe', str(tmp_path / 'no')) == 2
    assert 'no folder' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()
    assert train(scenes, tmp_path / 'run', options=[*TINY, 'checkpoint.keep_best=True']) == 2
    assert 'give them with --probe DATA' in capsys.readouterr().err
    assert train(scenes, tmp_path / 'run', '--probe', 'a',
                 options=[*TINY, 'probe.data=b']) == 2
    assert 'contradict each other' in capsys.readouterr().err


@METHODS.register_module(name='unguarded', force=True)
class Unguarded(BYOL):
    """BYOL without its predictor, its batch norms in the head, and with a gradient in the target:
    one answer to everything is its solution."""

    def __init__(self, backbone) -> None:
        super().__init__(backbone, projection=(16, 8))
        self.projector = torch.nn.Linear(512, 8)
        self.predictor = self.target_projector = torch.nn.Identity()
        self.target_backbone = torch.nn.Identity()

    def init_weights(self) -> None:
        """Nothing to copy."""

    def loss(self, views: list[View]) -> dict[str, torch.Tensor]:
        z1, z2 = (self.projector(self.backbone(view.image)[-1].mean((2, 3))) for view in views)
        self.show(z1, z2)
        return {'loss': 2 * cosine_regression(z1, z2)}

    def after_step(self, step, max_steps) -> None:
        """No target."""


def test_a_network_that_collapses_is_told_of(scenes, tmp_path):
    config = derived(tmp_path, 'small/byol_r18', "model = dict(_delete_=True, type='unguarded', "
                     "backbone=dict(type='torchvision.resnet18'))")
    assert train(scenes, tmp_path / 'run', config=config, epochs=15, options=SMALL) == 0
    assert {'projections', 'collapse', 'rank'} & set(alarms(tmp_path / 'run'))


def test_a_temperature_far_too_low_is_told_of(scenes, tmp_path):
    assert train(scenes, tmp_path / 'run', config='small/simclr_r18', epochs=4, options=[
        *SMALL, 'model.temperature=1e-4']) == 0
    assert 'far_above' in alarms(tmp_path / 'run')


def test_masks_of_one_region_are_told_of(scenes, tmp_path):
    config = derived(tmp_path, 'small/detcon_r18',
                     "masks = dict(_delete_=True, type='whole_image')")
    assert train(scenes, tmp_path / 'run', config=config, epochs=2) == 0
    found = read_lines(tmp_path / 'run' / 'alarms.jsonl')
    alarm = next(line for line in found if line['name'] == 'regions')
    assert alarm['step'] == 4 and 'a view has 1.00 regions' in alarm['text'] and alarm['mend']


def test_a_rate_out_of_range_is_told_of_and_the_recipes_own_is_not(scenes, tmp_path):
    options = [*SMALL, 'schedule.warmup_epochs=0']
    assert train(scenes, tmp_path / 'right', config='small/simclr_r18', epochs=4,
                 options=options) == 0
    assert alarms(tmp_path / 'right') == []
    assert train(scenes, tmp_path / 'wrong', config='small/simclr_r18', epochs=4,
                 options=[*options, 'schedule.base_lr=5']) == 0
    assert 'update' in alarms(tmp_path / 'wrong')


def test_a_queue_longer_than_the_data_is_told_of_before_the_first_step(scenes, tmp_path):
    assert train(scenes, tmp_path / 'run', config='small/moco_r18', options=[
        *SMALL, 'model.queue=24']) == 0
    assert read_lines(tmp_path / 'run' / 'alarms.jsonl')[0] == {
        'step': 0, 'name': 'queue', 'text': 'the queue of 24 negatives is longer than the 12 '
        'images: other views of an image stand among its negatives',
        'mend': 'a queue of at most half the images (model.queue)'}


def test_an_update_of_several_iterations_is_measured_whatever_the_interval(scenes, tmp_path):
    """Lines after iterations 3 and 6, updates after 2, 4 and 6."""
    assert train(scenes, tmp_path / 'run', '--allow-smaller-negatives', config='small/simclr_r18',
                 epochs=2, options=[*SMALL, 'train_dataloader.batch_size=4', 'log_interval=3',
                                    'schedule.warmup_epochs=0',
                                    'optim_wrapper.accumulative_counts=2']) == 0
    lines = read_lines(tmp_path / 'run' / 'health.jsonl')
    assert [line['step'] for line in lines] == [3, 6]
    assert all(line['update'] > 0 and line['gradient'] > 0 for line in lines)


def test_a_run_from_weights_is_compared_with_them(scenes, label_folder, backbone18, tmp_path):
    assert train(scenes, tmp_path / 'run', '--probe', str(label_folder), '--init', str(backbone18),
                 options=[*TINY, 'probe.interval=9', 'probe.size=128']) == 0
    first, last = read_lines(tmp_path / 'run' / 'probes.jsonl')
    assert (first['step'], last['step']) == (0, 3) and last['start'] == first['mIoU']
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert f'probe of the start ({backbone18.name}): mIoU {first["mIoU"]:.2f}' in log
    assert f'the start ({first["mIoU"]:.2f}, ' in log


@pytest.mark.slow
def test_two_processes_probe_and_end_together(scenes, label_folder, tmp_path):
    """The first process probes; both leave the run after the same iteration. (A start that is
    above all that may come stands in the file already.)"""
    folder = tmp_path / 'run'
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
               '2', '-m', 'densessl', 'train', 'small/detcon_r18', '--data', str(scenes),
               '--launcher', 'pytorch', '--work-dir', str(folder), '--epochs', '2', '--probe',
               str(label_folder), '--cfg-options', *TINY, 'train_dataloader.batch_size=2',
               'probe.size=128', 'probe.interval=2', 'probe.stop_below_start=2']
    folder.mkdir()
    JsonLines(folder / 'probes.jsonl').append({'step': 0, 'mIoU': 101.0, 'start': 101.0})
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 1, ended.stderr
    assert 'stopped after iteration 4: the last 2 probes were below the start' in ended.stderr
    assert [line['step'] for line in read_lines(folder / 'probes.jsonl')] == [0, 2, 4]
    assert [line['step'] for line in read_lines(folder / 'health.jsonl')] == [2, 4]
    assert (folder / 'iter_4.pth').is_file()
