"""The report of pretraining runs: what is there is shown, what is absent is said to be."""
from __future__ import annotations

import json
import re

import pytest
from made_runs import make_run, write_lines
from runs import TINY

from densessl.cli import main
from densessl.config import find_config
from densessl.errors import UsageError
from densessl.report.recorded_run import read_run
from densessl.report.write import write_report

pytestmark = pytest.mark.usefixtures('surroundings')


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    root = tmp_path_factory.mktemp('runs')
    return [make_run(root / 'good'), make_run(root / 'from-imagenet', start=24.0),
            make_run(root / 'collapsed', collapses=True)]


def words_of(path):
    """The text of a page, as one line."""
    text = re.sub(r'<style>.*?</style>|<[^>]*>', ' ', path.read_text(), flags=re.DOTALL)
    return ' '.join(text.split())


def test_several_runs_stand_side_by_side(three, tmp_path):
    page = write_report(three, tmp_path / 'report.html')
    text = words_of(page)
    assert text.index('collapsed is not healthy') < text.index('Loss')
    assert '✓ Healthy since step 50' in text and '✕ Not healthy since step 90' in text
    assert 'random weights' in text and 'imagenet.pth (resnet18)' in text
    assert '12,800' in text and '3:20 min' in text, 'the cost in images and time'
    assert 'squares (size 4)' in text and '1000 of photos' in text
    for title in ('Probe: mIoU', 'Effective rank of the features', 'Regions a view',
                  'Colors of the features', 'Views as the network gets them'):
        assert title in text
    assert page.read_text().count('step 400</figcaption>') == 3 * 2 * 3   # runs, images, kinds


def test_the_page_stands_alone(three):
    page = write_report(three[:1]).read_text()
    assert write_report(three[:1]) == three[0] / 'report.html'
    assert '<script' not in page and '@import' not in page
    sources = re.findall(r'(?:src|href)="([^"]{0,24})', page)
    assert sources and all(source.startswith(('data:image/', '#')) for source in sources)


def test_a_run_without_an_alarm_has_no_file_of_them(tmp_path):
    folder = make_run(tmp_path / 'run')
    (folder / 'alarms.jsonl').unlink()
    text = words_of(write_report([folder]))
    assert 'No alarm' in text and 'kept no alarms' not in text


def test_an_older_run_says_what_is_absent(tmp_path):
    folder = make_run(tmp_path / 'old', probed=False, record=False, pictures=False)
    for name in ('alarms.jsonl', 'health.jsonl'):
        (folder / name).unlink()
    text = words_of(write_report([folder]))
    for words in ('This run kept no alarms', 'No probe: old', 'No pictures: this run has none',
                  'An older run: it wrote no record', 'no fine-tuning run lies in the work folder'):
        assert words in text


def test_damaged_files_cost_no_more_than_what_they_held(tmp_path):
    folder = make_run(tmp_path / 'run', pictures=False)
    (folder / 'pretraining.json').write_text('{')
    (folder / 'probes.jsonl').write_text('{"step": 1, "mIoU": 5}\n{"step": 2, "mI')
    (folder / 'alarms.jsonl').write_text('[1]\n"text"\n')
    (folder / 'pictures').mkdir()
    (folder / 'pictures' / 'pictures.json').write_bytes(b'\xff')
    run = read_run(folder)
    assert run.facts == {} and run.pictures is None and run.alarms == []
    assert [line['mIoU'] for line in run.probes] == [5]
    write_report([folder])


def test_names_of_files_are_text(tmp_path):
    name = '<img src=x onerror=alert(1)>&"\'.jpg'
    folder = make_run(tmp_path / '<b>&"run', file=name)
    write_lines(folder / 'alarms.jsonl', [
        {'step': 5, 'name': '<i>', 'text': '<u>bad</u>', 'mend': '<s>more</s>'}] * 2)
    page = write_report([folder]).read_text()
    assert '<img src=x' not in page and '<b>&' not in page.replace('<b>&quot;', '')
    assert '<u>' not in page and '<s>' not in page
    assert '&lt;img src=x onerror=alert(1)&gt;&amp;&quot;' in page


def test_scores_of_fine_tuning_runs_are_shown(tmp_path):
    folder = make_run(tmp_path / 'run', pictures=False)
    (folder / 'fcn').mkdir()
    (folder / 'fcn' / 'scores.json').write_text(json.dumps({'scores': {'mIoU': 41.5}}))
    (folder / 'odd').mkdir()
    (folder / 'odd' / 'scores.json').write_text('{}')
    assert read_run(folder).scores == {'fcn': {'mIoU': 41.5}}
    assert 'fcn mIoU 41.50' in words_of(write_report([folder]))


def test_logs_of_another_run_in_the_folder_are_left_out(tmp_path):
    folder = make_run(tmp_path / 'run', pictures=False)
    older = folder / '20250101_000000' / 'vis_data'
    older.mkdir(parents=True)
    (older / 'scalars.json').write_text('{"step": 9999, "loss": 1.0}\n')
    assert read_run(folder).last == 400


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / name / 'run', pictures=False) for name in 'ab']
    text = words_of(write_report(folders, tmp_path / 'report.html'))
    assert 'a/run and b/run are healthy' in text


@pytest.mark.parametrize('arguments, words', [
    (['nowhere'], "'nowhere' is no folder"), (['.'], 'holds no pretraining run'),
    (['run', './run'], 'given twice'), (['run', '--out', 'page.pdf'], 'must end in .html')])
def test_wrong_usage_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, words):
    make_run(tmp_path / 'run', pictures=False)
    assert main(['report', *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
    assert not list(tmp_path.rglob('*.html'))


def test_too_many_runs(tmp_path):
    with pytest.raises(UsageError, match='at most 12'):
        write_report([tmp_path / str(i) for i in range(13)])


def test_train_writes_its_report(scenes, tmp_path, capsys):
    assert main(['train', 'demo/detcon_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--epochs', '1', '--cfg-options', *TINY]) == 0
    assert 'report: run/report.html' in capsys.readouterr().out
    text = words_of(tmp_path / 'run' / 'report.html')
    assert '? Cannot tell' in text and 'of 3, finished' in text and 'detcon_r18' in text
    record = json.loads((tmp_path / 'run' / 'pretraining.json').read_text())
    assert record['provenance']['images'] == 12 and record['masks']['generator']
    assert (tmp_path / 'run' / record['begun']).is_dir()


def test_the_report_is_of_the_folder_that_the_config_names(scenes, tmp_path, capsys):
    base = str(find_config('small/detcon_r18'))
    (tmp_path / 'own.py').write_text(f"_base_ = [{base!r}]\nwork_dir = 'new'\n")
    make_run(tmp_path / 'work_dirs' / 'own', pictures=False)      # another run's
    assert main(['train', 'own.py', '--data', str(scenes), '--epochs', '1', '--cfg-options',
                 *TINY]) == 0
    assert 'report: new/report.html' in capsys.readouterr().out
    assert (tmp_path / 'new' / 'report.html').is_file()
    assert not (tmp_path / 'work_dirs' / 'own' / 'report.html').exists()
