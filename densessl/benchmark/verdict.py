"""Was it worth it? The first lines of a benchmark: what each of the own weights gained or lost
against what they started from and against random weights, in sentences."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densessl.benchmark import tables
from densessl.benchmark.plan import SUPERVISED
from densessl.benchmark.tables import Line
from densessl.report.verdict import listed
from densessl.weights.backbone_file import RANDOM
from densessl.weights.lineage import links_of

UNKNOWN = 'nothing can be said yet'
# What to do, by what the comparison is with and what came out of it.
ADVICE = {
    ('start', 'lower'): 'Take the start itself, or continue on more images or for fewer steps',
    ('start', 'no difference shown'): 'The start itself is the cheaper choice; more images may '
                                      'make a difference, and more seeds may show a small one',
    (RANDOM, 'lower'): 'Train from random weights, or pretrain on more images',
    (RANDOM, 'no difference shown'): 'With this many labels random weights do as well so far; '
                                     'pretrain on more images or for longer, or use more seeds',
}


def verdict(results: dict[str, Any]) -> list[str]:
    """Sentences about each of the own weights: first whether it was worth it at all, then one for
    each number of labels. Empty as long as there is nothing to compare."""
    lines, length = [], tables.main_length(results)
    for name in own_names(results):
        start = results['starts'].get(name)
        told = [(fraction, *(tables.line_of(results[kind], name, fraction, length)
                             for kind in ('from_start', 'comparisons')))
                for fraction in results['fractions']]
        told = [one for one in told if any(one[1:])]
        if told:
            lines.append(_headline(name, start, told))
            lines += [_sentence(results, name, start, *one) for one in told]
    return lines


def own_names(results: dict[str, Any]) -> list[str]:
    """The initializations that the verdict is about: neither random, supervised nor a start."""
    others = {RANDOM, SUPERVISED, *results['starts'].values()}
    return [name for name in results['initializations'] if name not in others]


def _headline(name: str, start: str | None,
              told: Sequence[tuple[float, Line | None, Line | None]]) -> str:
    """Whether it was worth it, by the start if there is one, else by random weights."""
    what = 'continuing' if start else 'pretraining'
    against = 'its start' if start else 'random weights'
    words = {'higher': f'{what} was worth it', 'lower': f'{what} cost something',
             'no difference shown': f'no difference from {against} was shown'}
    shares: dict[str, list[str]] = {said: [] for said in (*words.values(), UNKNOWN)}
    for fraction, with_start, with_random in told:
        said = words.get((with_start or with_random)['verdict'], UNKNOWN)
        shares[said].append(tables.percent(fraction))
    parts = [f'{said} at {listed(percents)} of the labels'
             for said, percents in shares.items() if percents]
    return f'{name}: {"; ".join(parts)}.'


def _sentence(results: dict[str, Any], name: str, start: str | None, fraction: float,
              with_start: Line | None, with_random: Line | None) -> str:
    score = results['score']
    parts = []
    if with_start:
        link = links_of(results['initializations'][name])[0]
        parts.append(_words(with_start, score, f'its start ({link["file"]})'))
    if with_random:
        parts.append(_words(with_random, score, 'random weights'))
    advice = ADVICE.get(('start', with_start['verdict']) if with_start
                        else (RANDOM, with_random['verdict']))
    return (f'{tables.labels(results, fraction)}: {name} {", and ".join(parts)}.'
            + (f' {advice}.' if advice else ''))


def _words(line: Line, score: str, whom: str) -> str:
    """``'gained 2.1 mIoU on random weights (95 % interval +0.4 to +3.8: a difference)'``."""
    difference = line['difference']
    moved = (f'gained {difference:.1f} {score} on' if difference > 0 else
             f'lost {-difference:.1f} {score} against')
    if line['half_width'] is None:
        return f'{moved} {whom} ({line["reason"]})'
    known = 'a difference' if line['verdict'] in ('higher', 'lower') else 'no difference is shown'
    return f'{moved} {whom} (95 % interval {tables.interval(line)}: {known})'
