"""The tables of a benchmark, as rows of text: for Markdown and for the page."""
from __future__ import annotations

from typing import Any

from densessl.weights.backbone_file import RANDOM

BLANK = '—'
MARKS = {'higher': ' ▲', 'lower': ' ▼'}
Rows = list[list[str]]


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


def cell(results: dict[str, Any], name: str, fraction: float, length: float
         ) -> dict[str, Any] | None:
    """The mean and spread of an initialization, if there are any."""
    return next((one for one in results['cells'] if (one['initialization'], one['fraction'],
                 one['length']) == (name, fraction, length)), None)


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
    rows = [['initialization', *(labels(results, fraction) for fraction in results['fractions'])]]
    return rows + [[name, *(_text(results, name, fraction, length)
                            for fraction in results['fractions'])] for name in shown(results)]


def length_rows(results: dict[str, Any], fraction: float) -> Rows:
    """Header and rows: initializations × lengths, at one fraction."""
    rows = [['initialization', *(f'{length:g}×' for length in results['lengths'])]]
    return rows + [[name, *(_text(results, name, fraction, length)
                            for length in results['lengths'])] for name in shown(results)]


def test_rows(results: dict[str, Any], kind: str = 'comparisons') -> Rows:
    """Header and rows: every comparison with random weights, or of ``kind='from_start'`` with
    what was started from."""
    several = len(results['lengths']) > 1
    whom = 'random' if kind == 'comparisons' else 'the start'
    rows = [['initialization', 'labels', *(['length'] if several else []), 'seeds',
             f'difference from {whom}', '95 % interval', 'p', 'p adjusted', 'verdict']]
    for line in results[kind]:
        difference, half = line['difference'], line['half_width']
        interval = BLANK if half is None else (f'{signed(difference - half)} to '
                                               f'{signed(difference + half)}')
        p = [BLANK, BLANK] if line['p'] is None else [_p(line['p']), _p(line['p_adjusted'])]
        rows.append([line['initialization'], percent(line['fraction']),
                     *([f'{line["length"]:g}×'] if several else []), str(line['n']),
                     signed(difference), interval, *p, line['verdict']])
    return rows


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


def _text(results: dict[str, Any], name: str, fraction: float, length: float) -> str:
    found = cell(results, name, fraction, length)
    if found is None:
        return BLANK
    std = '' if found['std'] is None else f' ± {found["std"]:.1f}'
    few = '' if found['n'] == results['seeds'] else f' (n = {found["n"]})'
    mark = next((MARKS.get(line['verdict'], '') for line in results['comparisons']
                 if (line['initialization'], line['fraction'], line['length'])
                 == (name, fraction, length)), '')
    return f'{found["mean"]:.1f}{std}{few}{mark}'


def signed(value: float) -> str:
    return f'{value:+.1f}'.replace('-', '−')


def _p(value: float) -> str:
    return '< 0.001' if value < 0.001 else f'{value:.3f}'
