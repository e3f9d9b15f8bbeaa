"""Results, tables, curves and documentation of a study, from scores that are known."""
from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from densessl.benchmark.statistics import interval
from densessl.errors import UsageError
from densessl.study import tables
from densessl.study.curves import write_curves
from densessl.study.docs import BEGIN, END, write_docs
from densessl.study.report import study_markdown, study_page
from densessl.study.results import comparisons, summary

SCORES = {      # row → fraction → scores by seed
    'random': {1.0: [20.0, 21.0, 22.5], 0.125: [10.0, 11.0, 12.0]},
    'own, 2 CPU-min': {1.0: [30.0, 31.5, 32.0], 0.125: [25.0, 27.0, 26.0]},
    'own, 8 CPU-min': {1.0: [35.0, 36.0, 37.5], 0.125: [28.0]}}
DONE = {'id': 'abc', 'cpu_seconds': 30.0, 'seconds': 31.0, 'attempts': 1, 'jobs': 2, 'threads': 1,
        'written': '2026-11-26 10:00', 'densessl': '0'}


@pytest.fixture
def results():
    rows = [{'row': name, 'name': name.split(',')[0], 'from': 'x', 'data': [], 'options': {},
             'cpu_minutes': float(name.split()[1]) if ',' in name else None, 'epochs': None,
             'published': {'road': {'mIoU': 77.3}} if '8' in name else {}, 'note': '',
             'not_given': [], 'seeds': [0, 1, 2]} for name in SCORES]
    columns = [{'evaluation': 'road', 'kind': 'probe', 'data': 'road', 'how': 'dense',
                'fraction': fraction, 'length': 1.0, 'scores': ['mIoU']}
               for fraction in (1.0, 0.125)]
    cells = [{'row': row, 'evaluation': 'road', 'fraction': fraction, 'length': 1.0, 'seed': seed,
              'scores': {'mIoU': score, 'aAcc': 90.0}, 'labelled_images': round(367 * fraction),
              **DONE} for row, found in SCORES.items() for fraction, scores in found.items()
             for seed, score in enumerate(scores)]
    weights = [{'row': row, 'seed': seed, 'processor': 'a processor', 'method': 'm', 'images': 9,
                'images_seen': 640 * (1 + seed), 'steps': 10 * (1 + seed), 'epochs': 71.1,
                'cpu_seconds_of_training': 60.0 * minutes, 'cpu_seconds_of_masks': 6.0,
                'cpu_seconds_a_step_measured_before': 2.5, **DONE}
               for row, minutes in (('own, 2 CPU-min', 2), ('own, 8 CPU-min', 8))
               for seed in range(2)]
    found = {'study': 'one', 'title': 'A study', 'question': 'Which?', 'densessl': '0',
             'seeds': [0, 1, 2], 'device': 'cpu', 'readme': True, 'against': 'random',
             'published_in': 'a paper.', 'machines': ['a processor'], 'versions': {'torch': '2'},
             'rows': rows, 'columns': columns, 'cells': cells, 'weights': weights,
             'calibrations': [], 'masks': [], 'mask_quality': [],
             'missing': [{'id': 'd', 'kind': 'probe', 'label': 'a probe', 'failed': True,
                          'reason': 'no luck'},
                         {'id': 'e', 'kind': 'probe', 'label': 'b', 'failed': False,
                          'reason': None}]}
    return {**found, 'summary': summary(found), 'comparisons': comparisons(found)}


def test_the_interval_is_students():
    scores = [30.0, 31.5, 32.0]
    mean, half = interval(scores)
    low, high = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert interval([3.0]) == (3.0, None)


def test_the_table_has_means_intervals_and_what_was_published(results):
    (title, columns), = tables.groups(results)
    rows = tables.score_rows(results, columns)
    assert title == '' and rows[0] == ['pretraining', 'all labels (367 images)', 'published',
                                       '1/8 of the labels (46 images)', 'published']
    half = interval(SCORES['own, 8 CPU-min'][1.0])[1]
    assert rows[3] == ['own, 8 CPU-min', f'**36.2 ± {half:.1f}**', '77.3', '**28.0** (n = 1)',
                       '77.3']
    assert rows[1][2] == '—' and rows[2][3] == '26.0 ± 2.5'
    assert '**' not in rows[2][1]


def test_differences_are_paired_and_adjusted(results):
    rows = tables.comparison_rows(results)
    ours, theirs = np.array(SCORES['own, 2 CPU-min'][1.0]), np.array(SCORES['random'][1.0])
    assert rows[0][3] == 'difference from random'
    assert rows[1][:4] == ['own, 2 CPU-min', 'road', '3', f'+{np.mean(ours - theirs):.1f}']
    p = [stats.ttest_rel(SCORES[row][part], SCORES['random'][part]).pvalue for row, part in (
        ('own, 2 CPU-min', 1.0), ('own, 8 CPU-min', 1.0), ('own, 2 CPU-min', 0.125))]
    adjusted = {line['row'] + str(line['fraction']): line.get('p_adjusted')
                for line in results['comparisons']}
    assert adjusted['own, 2 CPU-min1.0'] == pytest.approx(
        max(sorted(p)[i] * (3 - i) for i in range(sorted(p).index(p[0]) + 1)))
    assert adjusted['own, 8 CPU-min0.125'] is None       # one seed
    assert rows[-1][4:] == ['—', '—', '—']


def test_cost_is_what_was_measured(results):
    rows = tables.cost_rows(results)
    assert rows[1] == ['own, 2 CPU-min', '2', '2.1', '0.1', '10 – 20', '640 – 1,280', '71.1',
                       '2.50']


def test_what_failed_and_what_is_missing_is_said(results):
    notes = tables.notes(results)
    assert 'Unfinished: 1 of the study’s cells are not done.' in notes
    assert 'Failed: a probe: no luck' in notes
    results['rows'][0]['not_given'] = ['lite0']
    assert 'random: blank because lite0 was not given (--data lite0=FILE).' in tables.notes(results)
    results['cells'] = results['summary'] = []
    assert tables.sentence(results) == 'Nothing has been measured yet.'
    assert all(set(row[1:]) <= {'—', '77.3'} for row in tables.score_rows(
        results, results['columns'])[1:])


def test_wide_tables_are_divided(results):
    column = results['columns'][0]
    results['columns'] = [{**column, 'evaluation': name, 'fraction': fraction, 'length': length}
                          for name in 'ab' for fraction in (1.0, 0.5) for length in (1, 2, 3, 4)]
    assert [title for title, _ in tables.groups(results)] == [
        'a, all labels', 'a, 1/2 of the labels', 'b, all labels', 'b, 1/2 of the labels']


def test_curves_are_drawn_where_there_are_points(results, tmp_path):
    drawn = write_curves(results, tmp_path, 'one-')
    assert {title: path.name for title, path in drawn.items()} == {
        'road: score by labels': 'one-labels-1.png',
        'road, all labels (367 images): score by pretraining': 'one-compute-1.png'}
    assert all(path.read_bytes().startswith(b'\x89PNG') for path in drawn.values())


def test_the_page_is_one_file(results, tmp_path):
    drawn = write_curves(results, tmp_path)
    study_page(results, drawn, tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text()
    assert text.count('src="data:image/jpeg;base64,') == len(drawn) == 2
    assert not re.search(r'(?:src|href)="(?!data:)', text) and '36.2 ± ' in text


def test_documentation_is_written_from_results_alone(results, tmp_path):
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'studies').mkdir()
    readme = tmp_path / 'README.md'
    for text in ('# Before', f'{BEGIN}\nold', f'{END}\n{BEGIN}', f'{BEGIN}\nmine\n{BEGIN}{END}'):
        readme.write_text(text)
        with pytest.raises(UsageError, match=r'README\.md has no line <!-- evidence.* with <!--'):
            write_docs(tmp_path, results, None)
        assert readme.read_text() == text and not (tmp_path / 'studies' / 'results').exists()
    readme.write_text(f'# Before\n\n{BEGIN}\nold\n{END}\n\nafter\n')
    features = tmp_path / 'features.png'
    features.write_bytes(b'picture')
    write_docs(tmp_path, results, features)
    text = readme.read_text()
    assert text.startswith(f'# Before\n\n{BEGIN}\n') and text.endswith(f'{END}\n\nafter\n')
    assert '| own, 8 CPU-min | **36.2 ± ' in text and 'old' not in text
    pictures = re.findall(r'!\[.*?\]\((.*?)\)', text)
    assert pictures == ['docs/evidence/one-labels-1.png', 'docs/evidence/one-features.png']
    assert all((tmp_path / path).is_file() for path in pictures)
    evidence = (tmp_path / 'docs' / 'evidence.md').read_text()
    assert study_markdown(results, {}).splitlines()[0] in evidence
    assert all((tmp_path / 'docs' / path).is_file()
               for path in re.findall(r'!\[.*?\]\((.*?)\)', evidence))
    write_docs(tmp_path, None, None)        # anew, on any machine: the same to the letter
    assert (readme.read_text(), (tmp_path / 'docs' / 'evidence.md').read_text()) == (text, evidence)


def test_the_documentation_is_what_the_kept_results_say(tmp_path):
    """Nobody has typed a figure: written anew, it is the same."""
    root = Path(__file__).parents[2]
    for name in ('README.md', 'docs/evidence.md'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(root / name, tmp_path / name)
    shutil.copytree(root / 'studies' / 'results', tmp_path / 'studies' / 'results')
    if (root / 'docs' / 'evidence').is_dir():
        shutil.copytree(root / 'docs' / 'evidence', tmp_path / 'docs' / 'evidence')
    write_docs(tmp_path, None, None)
    for name in ('README.md', 'docs/evidence.md'):
        assert (tmp_path / name).read_text() == (root / name).read_text(), 'make evidence'
