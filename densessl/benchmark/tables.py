"""The tables of a benchmark, as rows of text: for Markdown and for the page."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from densessl.probes.differences import signed
from densessl.weights.backbone_file import RANDOM

BLANK = '—'
MARKS = {'higher': ' ▲', 'lower': ' ▼'}
Rows = list[list[str]]
Line = dict[str, Any]       # of the results: a cell, or a comparison


def percent(fraction: float) -> str:
    """``'1 %'``."""
    return f'{100 * fraction:g} %'


def main_length(results: dict[str, Any]) -> float:
    """The length that tables and plots by labels are about: the config's own, else the longest."""
    return 1.0 if 1.0 in results['lengths'] else max(results['lengths'])


def shown(results: dict[str, Any]) -> list[str]:
    """The initializations in the order of tables, with the one that is blank."""
    names = list(results['initializations'])
    return [RANDOM, *results['blank'], *(name for name in names if name != RANDOM)]


def line_of(lines: Iterable[Line], name: str, fraction: float, length: float) -> Line | None:
    """The cell or the comparison of an initialization at a fraction and a length, if there is one.
    """
    return next((line for line in lines if (line['initialization'], line['fraction'],
                 line['length']) == (name, fraction, length)), None)


def images_of(results: dict[str, Any], fraction: float) -> int | None:
    """How many images a fraction is, once a run has counted them."""
    return next((one['images'] for one in results['cells'] if one['fraction'] == fraction), None)


def labels(results: dict[str, Any], fraction: float) -> str:
    """``'1 % (4 images)'``."""
    images = images_of(results, fraction)
    count = '' if images is None else f' ({images} image{"s" if images != 1 else ""})'
    return percent(fraction) + count


def score_rows(results: dict[str, Any], length: float) -> Rows:
    """Header and rows: initializations × fractions, at one length."""
    return _rows(results, [(labels(results, fraction), fraction, length)
                           for fraction in results['fractions']])


def length_rows(results: dict[str, Any], fraction: float) -> Rows:
    """Header and rows: initializations × lengths, at one fraction."""
    return _rows(results, [(f'{length:g}×', fraction, length) for length in results['lengths']])


def test_rows(results: dict[str, Any], kind: str = 'comparisons') -> Rows:
    """Header and rows: every comparison with random weights, or of ``kind='from_start'`` with
    what was started from."""
    several = len(results['lengths']) > 1
    whom = 'random' if kind == 'comparisons' else 'the start'
    rows = [['initialization', 'labels', *(['length'] if several else []), 'seeds',
             f'difference from {whom}', '95 % interval', 'p', 'p adjusted', 'verdict']]
    for line in results[kind]:
        rows.append([line['initialization'], percent(line['fraction']),
                     *([f'{line["length"]:g}×'] if several else []), *test_cells(line),
                     line['verdict']])
    return rows


def test_cells(line: Mapping[str, Any]) -> list[str]:
    """A paired test: pairs, difference, 95 % interval, p, and p adjusted."""
    p = [BLANK, BLANK] if line['p'] is None else [_p(line['p']), _p(line['p_adjusted'])]
    return [str(line['n']), signed(line['difference']), interval(line), *p]


def interval(line: Mapping[str, Any]) -> str:
    """``'+0.4 to +3.8'``: of the difference of a paired test."""
    difference, half = line['difference'], line['half_width']
    return (BLANK if half is None else
            f'{signed(difference - half)} to {signed(difference + half)}')


def notes(results: dict[str, Any]) -> list[str]:
    """What a reader must know to read the tables."""
    score, seeds, level = results['score'], results['seeds'], results['level']
    tests = sum(line['p'] is not None for line in [*results['comparisons'],
                                                   *results['from_start']])
    lines = [f'{score or "score"} on the validation images: mean ± standard deviation (n − 1) over '
             f'{seeds} seed{"s" if seeds != 1 else ""}. A seed draws the labelled subset, the same '
             f'for every initialization, and the training; a smaller subset is part of a larger '
             f'one.']
    if seeds < 2:
        lines.append('One seed: how much scores vary from seed to seed is not known, so nothing '
                     'can be said about differences.')
    else:
        lines.append(f'▲ higher, ▼ lower than random weights by a paired t-test over seeds, at a '
                     f'level of {level:g} for all {tests} tests together (Holm). No mark: no '
                     f'difference was shown, which is not to say that there is none.')
        if seeds == 2:
            lines.append('With two seeds the test rarely shows even large differences; three or '
                         'more are better.')
    lines += _likeness(results['baseline'])
    lines += [f'{start}: what {name} started from, as it was.'
              for name, start in results['starts'].items()] + results['start_notes']
    lines += [f'{name}: blank because {reason}.' for name, reason in results['blank'].items()]
    failed = [run for run in results['missing'] if run['failed']]
    waiting = len(results['missing']) - len(failed)
    if waiting:
        lines.append(f'Unfinished: {waiting} run{"s are" if waiting > 1 else " is"} still to do.')
    lines += [f'Failed: {run["name"]}: {run["reason"]}' for run in failed]
    return lines


def _likeness(baseline: dict[str, Any]) -> list[str]:
    """On what network random weights were trained, and whom they can be compared with only in
    part."""
    if baseline['like'] is None:
        return []
    return [f'{RANDOM}: trained with the network and the input of {baseline["like"]}.'] + [
        f'{name} had another network or input than {RANDOM}, to which a difference between them '
        f'may be due: {"; ".join(changes)}.' for name, changes in baseline['differing'].items()]


def convergence(results: dict[str, Any]) -> list[str]:
    """Does pretraining only speed up, or end higher? What the longest runs can say to that."""
    longest = max(results['lengths'])
    verdicts = {(line['initialization'], line['fraction'], line['length']): line['verdict']
                for line in results['comparisons']}
    sentences = []
    for fraction in results['fractions']:
        for name in results['initializations']:
            early = [f'{length:g}×' for length in results['lengths'][:-1]
                     if verdicts.get((name, fraction, length)) == 'higher']
            end = verdicts.get((name, fraction, longest))
            if end is None:
                continue
            text = {'higher': f'still higher than random at {longest:g}×',
                    'lower': f'lower than random at {longest:g}×'}.get(
                        end, f'at {longest:g}×: {end}')
            before = f'higher than random at {", ".join(early)}; ' if early else ''
            sentences.append(f'{percent(fraction)}, {name}: {before}{text}.')
    return sentences


def markdown(rows: Rows) -> str:
    """A Markdown table."""
    lines = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _rows(results: dict[str, Any], columns: Sequence[tuple[str, float, float]]) -> Rows:
    """Header and rows: initializations × ``columns`` (heading, fraction, length)."""
    return [['initialization', *(heading for heading, *_ in columns)]] + [
        [name, *(_text(results, name, *place) for _, *place in columns)] for name in shown(results)]


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return '\n'.join(f'- {line}' for line in lines)


def _text(results: dict[str, Any], name: str, fraction: float, length: float) -> str:
    found = line_of(results['cells'], name, fraction, length)
    if found is None:
        return BLANK
    std = '' if found['std'] is None else f' ± {found["std"]:.1f}'
    few = '' if found['n'] == results['seeds'] else f' (n = {found["n"]})'
    tested = line_of(results['comparisons'], name, fraction, length)
    mark = MARKS.get(tested['verdict'], '') if tested else ''
    return f'{found["mean"]:.1f}{std}{few}{mark}'


def _p(value: float) -> str:
    return '< 0.001' if value < 0.001 else f'{value:.3f}'
