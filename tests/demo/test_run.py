"""The demo, the quick way: from an empty folder to a report, and what is said when it cannot."""
from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from densessl.cli import main
from densessl.demo import run as demo_module
from densessl.demo.demo import CONFIG, Demo, read_demo_config, run_name
from densessl.errors import UsageError

STAGES = ['sample', 'masks', 'pretraining', 'export', 'probe', 'report']


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """The folder of a quick demo."""
    folder = tmp_path_factory.mktemp('demo') / 'out'
    assert main(['demo', '--quick', '--out', str(folder), '--seed', '1']) == 0
    return folder


def test_every_stage_is_done_and_timed(done):
    stages = json.loads((done / 'demo.json').read_text())['stages']
    assert set(STAGES) < set(stages)
    assert all(stage['done'] and stage['seconds'] >= 0 for stage in stages.values())


def test_every_downstream_model_is_scored_from_both_weights(done):
    for part in read_demo_config(quick=True).finetuning:
        for weights in ('random', 'pretrained'):
            record = json.loads((done / 'finetuning' / f'{part.config.split("/")[-1]}-{weights}'
                                 / 'scores.json').read_text())
            assert set(part.scores) <= set(record['scores'])
            assert bool(record['handoff']) == (weights == 'pretrained')
        assert not list((done / 'finetuning').rglob('*.pth'))
        keys = record['handoff']['keys']
        assert keys['loaded'] > 0 and sum(keys.values()) == keys['loaded']
        assert max(record['handoff']['features']['differences']) < 1e-4


def test_frozen_features_are_probed_on_several_draws(done):
    found = json.loads((done / 'demo.json').read_text())['stages']['probe']['found']
    repeats = read_demo_config(quick=True).probe.repeats
    assert {weights: len(scores) for weights, scores in found['scores'].items()} == {
        'random': repeats, 'pretrained': repeats}
    assert len({*found['scores']['random'], *found['scores']['pretrained']}) > 1
    assert all(0 <= score <= 100 for scores in found['scores'].values() for score in scores)


def test_what_was_found_is_the_reports_first_sentence(done):
    html = (done / 'report.html').read_text()
    first = re.search(r'<p class="lead">(.*?)</p>', html, re.DOTALL)[1]
    assert 'retraining without labels' in first and 'frozen features, mIoU: ' in first
    assert html.index(first) < html.index('<section')
    assert all(part.name in first for part in read_demo_config(quick=True).finetuning)


def test_repetitions_have_names_folders_and_seeds_of_their_own():
    demos = [Demo(read_demo_config(quick=False), Path('demo'), seed=seed) for seed in (0, 1)]
    part = demos[0].cfg.finetuning[0]
    repeats = range(10)
    for things in ([run_name(part, 'random', repeat) for repeat in repeats],
                   [demos[0].finetuning(part, 'random', repeat) for repeat in repeats],
                   [demo.seed_of(repeat) for demo in demos for repeat in repeats]):
        assert len(set(things)) == len(things)
    assert run_name(part, 'random', 0) == f'{part.name} from random'


def test_the_report_shows_everything_and_needs_nothing(done):
    html = (done / 'report.html').read_text()
    assert '<script' not in html and '<link' not in html
    assert not re.search(r'url\((?!#)', html)      # of the page itself: where a chart is clipped
    assert not re.search(r'(src|href)\s*=\s*"(?!data:|#)', html)
    demo = Demo(read_demo_config(quick=True), done, seed=1, quick=True)
    pictures = demo.cfg.pictures
    expected = 2 * pictures.masks + 3 * pictures.views
    expected += 4 * pictures.predictions * len(demo.cfg.finetuning)
    assert html.count('<img src="data:image/jpeg;base64,') == expected
    assert html.count('<svg') == 2 + 2 * len(demo.cfg.finetuning)
    assert 'no data' not in html and 'no prediction was kept' not in html
    for words in ('Function check', 'Quick run', 'Versions', 'together', demo.cfg.pretraining.name):
        assert words in html, words


def test_the_curves_are_of_two_runs(done):
    """mmengine would log the second run of a process to the files of the first."""
    for folder in filter(Path.is_dir, (done / 'finetuning').iterdir()):
        assert len(list(folder.glob('*/vis_data/scalars.json'))) == 1, folder.name


def test_a_second_run_repeats_nothing_but_the_report(done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob('*.pth')}
    assert main(['demo', '--quick', '--out', str(done), '--seed', '1']) == 0
    said = capsys.readouterr().out
    assert said.count('done before') == 5 + len(read_demo_config(True).finetuning)
    for words in ('retraining without labels', 'random weights', 'report.html'):
        assert words in said
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob('*.pth')}


def test_a_run_that_cannot_is_named_with_its_log_and_the_others_are_not_done_again(
        done, capsys, tmp_path):
    out = tmp_path / 'out'
    shutil.copytree(done, out)
    part = read_demo_config(True).finetuning[0]
    lost = Demo(read_demo_config(True), out, 1, True).finetuning(part, 'pretrained')
    (lost / 'scores.json').unlink()
    (out / 'sample' / 'classes.json').write_text('{"classes": "none"}')
    assert main(['demo', '--quick', '--out', str(out), '--seed', '1']) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and f', {part.name}: ' in said.err
    assert 'classes.json' in said.err and str(lost.with_suffix('.log')) in said.err
    assert f'{part.name} from random: ' not in said.out
    assert main(['demo', '--out', str(out), '--run', 'nothing']) == 2
    assert f'there are {part.name} from random, ' in capsys.readouterr().err


def test_a_folder_of_other_files_is_refused_and_kept(tmp_path, capsys):
    (tmp_path / 'photo.jpg').write_text('mine')
    for fresh in ([], ['--fresh']):
        assert main(['demo', '--quick', '--out', str(tmp_path), *fresh]) == 2
        assert 'holds other files' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['photo.jpg']


def test_a_stage_that_cannot_is_named_in_one_line(tmp_path, capsys, monkeypatch):
    def fail(demo):
        raise UsageError('the pencil broke')
    monkeypatch.setattr(demo_module, 'draw_sample', fail)
    assert main(['demo', '--quick', '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert 'stage 1/' in error and 'sample: the pencil broke' in error
    assert len(error.strip().splitlines()) == 1


def test_an_interrupt_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def stop(demo):
        raise KeyboardInterrupt
    monkeypatch.setattr(demo_module, 'draw_sample', stop)
    assert main(['demo', '--quick', '--out', str(tmp_path / 'out')]) == 1
    assert 'the same command goes on' in capsys.readouterr().err


def test_negative_seeds_are_refused(tmp_path, capsys):
    assert main(['demo', '--seed', '-1', '--out', str(tmp_path / 'out')]) == 2
    assert '4294967295, not -1' in capsys.readouterr().err


def test_the_config_can_be_found_and_its_quick_part_is_smaller():
    full, quick = read_demo_config(quick=False), read_demo_config(quick=True)
    assert CONFIG == 'demo/demo'
    assert quick.sample.unlabelled < full.sample.unlabelled
    assert quick.pretraining.epochs < full.pretraining.epochs
    assert quick.sample.size == full.sample.size      # merged into the rest, not in its place
