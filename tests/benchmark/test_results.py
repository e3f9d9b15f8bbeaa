"""What a benchmark says of its scores: no more than the test over seeds allows."""
import json
import re
from pathlib import Path

import cv2
import pytest

from densessl.benchmark import tables
from densessl.benchmark.plan import Benchmark, Run
from densessl.benchmark.report import LABELS_PLOT, LENGTHS_PLOT, write_report
from densessl.benchmark.results import collect, save
from densessl.benchmark.verdict import verdict
from densessl.errors import UsageError

SCORES = {      # initialization → fraction → scores of three seeds
    'random': {0.1: [20.0, 24.0, 22.0], 1.0: [50.0, 52.0, 51.0]},
    'good': {0.1: [30.0, 34.1, 31.9], 1.0: [50.5, 51.0, 52.0]},
    'bad': {0.1: [10.1, 14.0, 12.1], 1.0: [51.0, 51.0, 51.0]},
}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A benchmark with the scores above, as finished runs leave them."""
    monkeypatch.setattr('densessl.benchmark.plan.Weights.load',
                        lambda file: type('W', (), {'meta': {'sha256': '0' * 64, 'method': 'm',
                                                             'backbone': {'type': 'a.b'}}}))

    def make(lengths=(1.0,), seeds=3):
        plan = Benchmark(config='some/config', backbones={'good': 'g.pth', 'bad': 'b.pth'},
                         fractions=[0.1, 1.0], seeds=seeds, lengths=lengths, folder=tmp_path)
        for run in plan.runs():
            folder = plan.run_folder(run)
            folder.mkdir(parents=True, exist_ok=True)
            # halving the length costs random weights 8 points, the others nothing
            score = SCORES[run.initialization][run.fraction][run.seed] - (
                8 + run.seed / 10 if run.length < 1 and run.initialization == 'random' else 0)
            (folder / 'scores.json').write_text(json.dumps(
                {'scores': {'mIoU': score, 'aAcc': 99.0}, 'iterations': 5, 'seconds': 2}))
            images = [f'{i}.png' for i in range(round(20 * run.fraction))]
            (folder / 'subset.json').write_text(json.dumps({'images': images, 'of': 20}))
        return plan
    return make


def test_a_difference_is_one_only_if_the_test_says_so(finished):
    results = collect(finished(), {})
    verdicts = {(line['initialization'], line['fraction']): line['verdict']
                for line in results['comparisons']}
    assert verdicts == {('good', 0.1): 'higher', ('bad', 0.1): 'lower',
                        ('good', 1.0): 'no difference shown', ('bad', 1.0): 'no difference shown'}
    for line in results['comparisons']:
        assert line['n'] == 3 and line['p'] <= line['p_adjusted'] <= 1
    rows = tables.score_rows(results, 1.0)
    assert rows == [['initialization', '10 % (2 images)', '100 % (20 images)'],
                    ['random', '22.0 ± 2.0', '51.0 ± 1.0'], ['supervised', '—', '—'],
                    ['good', '32.0 ± 2.1 ▲', '51.2 ± 0.8'], ['bad', '12.1 ± 2.0 ▼', '51.0 ± 0.0']]
    assert 'for all 4 tests together' in tables.notes(results)[1]


def test_one_seed_says_nothing_about_differences(finished):
    results = collect(finished(seeds=1), {})
    assert {line['verdict'] for line in results['comparisons']} == {
        'one seed: nothing can be said'}
    text = tables.markdown(tables.score_rows(results, 1.0))
    assert '▲' not in text and '±' not in text
    assert any('nothing can be said about differences' in note for note in tables.notes(results))


def test_only_seeds_that_both_have_are_paired(finished):
    plan = finished()
    (plan.run_folder(Run('random', 0.1, 1.0, 1)) / 'scores.json').unlink()
    results = collect(plan, {'random-fraction0.1-seed1': 'out of memory'})
    line = next(one for one in results['comparisons'] if one['fraction'] == 0.1)
    assert line['n'] == 2 and line['difference'] == pytest.approx((10.0 + 9.9) / 2)
    assert '21.0 ± 1.4 (n = 2)' in tables.score_rows(results, 1.0)[1]
    assert any(note == 'Failed: random-fraction0.1-seed1: out of memory'
               for note in tables.notes(results))


def test_lengths_answer_whether_pretraining_ends_higher(finished, tmp_path):
    results = collect(finished(lengths=(0.5, 1.0)), {})
    assert tables.length_rows(results, 1.0)[1] == ['random', '42.9 ± 1.0', '51.0 ± 1.0']
    sentences = tables.convergence(results)
    assert '10 %, good: higher than random at 0.5×; still higher than random at 1×.' in sentences
    assert '100 %, good: higher than random at 0.5×; at 1×: no difference shown.' in sentences
    write_report(results, tmp_path)
    assert cv2.imread(str(tmp_path / LENGTHS_PLOT)) is not None
    written = (tmp_path / 'results.md').read_text()
    assert '## Score against the length of fine-tuning' in written and sentences[0] in written


def test_the_page_is_whole_and_needs_nothing_else(finished, tmp_path):
    results = collect(finished(), {})
    save(results, tmp_path)
    write_report(results, tmp_path)
    page = (tmp_path / 'report.html').read_text()
    assert not re.search(r'(src|href)="(?!data:)', page) and '<script' not in page
    assert '32.0 ± 2.1 ▲' in page and page.count('<img') == 1
    plot = cv2.imread(str(tmp_path / LABELS_PLOT))
    assert plot.shape[1] > 1000 and plot.std() > 5
    assert f']({LABELS_PLOT})' in (tmp_path / 'results.md').read_text()


def test_results_before_anything_is_done(finished, tmp_path):
    plan = finished()
    for run in plan.runs():
        (plan.run_folder(run) / 'scores.json').unlink()
    results = collect(plan, {})
    write_report(results, tmp_path)
    assert results['score'] is None and len(results['missing']) == 18
    assert tables.score_rows(results, 1.0)[1] == ['random', '—', '—']
    assert not (tmp_path / LABELS_PLOT).exists()


def test_runs_on_other_images_are_not_compared(finished):
    plan = finished()
    (plan.run_folder(Run('good', 0.1, 1.0, 2)) / 'subset.json').write_text(
        json.dumps({'images': ['x.png', 'y.png'], 'of': 20}))
    with pytest.raises(UsageError, match=r'fraction 0\.1 and seed 2 .* different images'):
        collect(plan, {})
    for name in plan.files:
        (plan.run_folder(Run(name, 0.1, 1.0, 2)) / 'subset.json').write_text(
            json.dumps({'images': ['x.png', 'y.png'], 'of': 20}))
    with pytest.raises(UsageError, match=r'seed 2 had images at fraction 0\.1 .* not at 1'):
        collect(plan, {})


def test_runs_on_other_validation_images_are_not_compared(finished):
    plan = finished()
    for seed, data in ((0, None), (1, 'a'), (2, 'a')):     # the first was recorded before
        (plan.run_folder(Run('good', 0.1, 1.0, seed)) / 'run.json').write_text(
            json.dumps({'labelled': data} if data else {}))
    assert len(collect(plan, {})['runs']) == 18
    (plan.run_folder(Run('bad', 1.0, 1.0, 1)) / 'run.json').write_text('{"labelled": "b"}')
    with pytest.raises(UsageError, match='different images or labels: the data set was changed'):
        collect(plan, {})


def test_another_score_can_be_asked_for(finished):
    plan = finished()
    plan.score = 'aAcc'
    results = collect(plan, {})
    assert {cell['mean'] for cell in results['cells']} == {99.0}
    assert {line['verdict'] for line in results['comparisons']} == {
        'the same at every seed: no test is possible'}
    plan.score = 'AP'
    with pytest.raises(UsageError, match='--score AP: the evaluation gives mIoU, aAcc'):
        collect(plan, {})


@pytest.mark.parametrize('scores', [{'mIoU': float('nan'), 'aAcc': 9.0}, {'mIoU': None}, {}])
def test_a_run_without_the_score_is_a_failed_one(finished, scores, tmp_path):
    """Neither a mean nor a test counts it, though an earlier version wrote it down as finished."""
    plan = finished()
    path = plan.run_folder(Run('good', 0.1, 1.0, 1)) / 'scores.json'
    path.write_text(json.dumps({'scores': scores, 'iterations': 5, 'seconds': 2}))
    results = collect(plan, {})
    lost, = results['missing']
    assert (lost['initialization'], lost['seed'], lost['failed']) == ('good', 1, True)
    assert 'not a figure' in lost['reason'] and results['score'] == 'mIoU'
    cell = next(one for one in results['cells'] if one['initialization'] == 'good'
                and one['fraction'] == 0.1)
    assert cell['n'] == 2 and cell['mean'] == pytest.approx((30.0 + 31.9) / 2)
    line = next(one for one in results['comparisons'] if one['initialization'] == 'good'
                and one['fraction'] == 0.1)
    assert line['n'] == 2
    save(results, tmp_path)
    assert 'NaN' not in (tmp_path / 'results.json').read_text()


LINK = {'file': 'lite0.pth', 'sha256': 'a' * 64, 'file_sha256': 'b' * 64}
CONTINUED = {'start': {0.1: [30.0, 31.0, 32.0], 0.5: [40.0, 41.0, 43.0], 1.0: [51.0, 54.0, 52.0]},
             'own': {0.1: [33.0, 34.1, 34.9], 0.5: [40.1, 41.9, 42.1], 1.0: [47.0, 50.1, 47.9]},
             'random': {0.1: [20.0, 24.0, 22.0], 0.5: [30.0, 31.0, 29.5], 1.0: [40.0, 41.0, 39.0]}}


@pytest.fixture
def continued(tmp_path, monkeypatch):
    """A finished benchmark of weights that were continued, whose start is beside them."""
    plain = {'method': 'm', 'backbone': {'type': 'a.b'}}
    metas = {'o.pth': {**plain, 'sha256': '0' * 64, 'start': [LINK]},
             'start.pth': {**plain, 'sha256': LINK['sha256']}}
    monkeypatch.setattr('densessl.benchmark.plan.Weights.load', lambda file: type(
        'W', (), {'meta': metas[Path(file).name]}))
    monkeypatch.setattr('densessl.benchmark.starts.load_backbone_file',
                        lambda path: ({}, metas[Path(path).name]))

    def make(seeds=3, **arguments):
        plan = Benchmark(config='some/config', backbones={'own': str(tmp_path / 'o.pth')},
                         fractions=[0.1, 0.5, 1.0], seeds=seeds, folder=tmp_path / 'b',
                         **arguments)
        for run in plan.runs():
            folder = plan.run_folder(run)
            folder.mkdir(parents=True, exist_ok=True)
            score = CONTINUED[run.initialization][run.fraction][run.seed]
            (folder / 'scores.json').write_text(json.dumps(
                {'scores': {'mIoU': score}, 'iterations': 5, 'seconds': 2}))
            (folder / 'subset.json').write_text(json.dumps(
                {'images': [f'{i}.png' for i in range(round(20 * run.fraction))], 'of': 20}))
        return plan
    (tmp_path / 'start.pth').touch()
    return make


def test_the_verdict_says_whether_continuing_was_worth_it(continued, tmp_path):
    results = collect(continued(), {})
    assert results['starts'] == {'own': 'start'}
    assert [line['against'] for line in results['from_start']] == ['start'] * 3
    assert 'for all 9 tests together' in tables.notes(results)[1]     # three initializations' own
    first, *sentences = verdict(results)
    assert first == ('own: continuing was worth it at 10 % of the labels; continuing cost '
                     'something at 100 % of the labels; no difference from its start was shown at '
                     '50 % of the labels.')
    assert sentences[0].startswith('10 % (2 images): own gained 3.0 mIoU on its start (lite0.pth) '
                                   '(95 % interval +2.')
    assert 'and gained 12.0 mIoU on random weights (95 % interval' in sentences[0]
    assert sentences[0].endswith(': a difference).')
    assert 'no difference is shown)' in sentences[1] and sentences[1].endswith(
        'more seeds may show a small one.')
    assert 'own lost 4.0 mIoU against its start' in sentences[2] and sentences[2].endswith(
        'Take the start itself, or continue on more images or for fewer steps.')
    write_report(results, tmp_path)
    page, text = (tmp_path / 'report.html').read_text(), (tmp_path / 'results.md').read_text()
    assert text.index(first) < text.index('| initialization |')
    assert page.index('continuing was worth it at 10') < page.index('<table')
    assert '## Differences from the start' in text and 'lite0.pth' in page


def test_one_seed_gives_no_verdict(continued):
    first, *sentences = verdict(collect(continued(seeds=1), {}))
    assert first == 'own: nothing can be said yet at 10 %, 50 % and 100 % of the labels.'
    assert all('(one seed: nothing can be said)' in sentence for sentence in sentences)


def test_without_a_start_the_verdict_is_about_random_weights(continued):
    results = collect(continued(use_start=False), {})
    assert results['from_start'] == [] and 'start' not in results['initializations']
    first, sentence, *_ = verdict(results)
    assert first == 'own: pretraining was worth it at 10 %, 50 % and 100 % of the labels.'
    assert 'start' not in sentence


def test_a_start_that_moved_is_said_and_another_in_its_place_is_refused(continued, tmp_path):
    (tmp_path / 'start.pth').rename(tmp_path / 'elsewhere.pth')
    results = collect(continued(), {})
    assert results['starts'] == {} and any(
        'own started from lite0.pth, which is left out: no start.pth is beside' in note
        for note in tables.notes(results))
    (tmp_path / 'start.pth').touch()
    with pytest.raises(UsageError, match=r'o.pth is not what own started from: lite0.pth, whose '
                       r'weights have the sha256 aaaaaaaaaaaa…, not 0000'):
        continued(start=str(tmp_path / 'o.pth'))
    with pytest.raises(UsageError, match="the name 'start' is taken"):
        Benchmark(config='c', backbones={'start': 'x.pth'}, fractions=[1.0], folder=tmp_path)
