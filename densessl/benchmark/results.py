"""What the runs of a benchmark say together: ``results.json``."""
from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import densessl
from densessl.benchmark.plan import SUPERVISED, Benchmark
from densessl.benchmark.statistics import LEVEL, holm, paired_by_seed, spread
from densessl.errors import UsageError, shown
from densessl.files.json_files import json_object, read_json_object, write_json
from densessl.finetune.run_folder import DATA, RECORD, SCORES, read_scores
from densessl.weights.backbone_file import RANDOM

RESULTS = 'results.json'
REMEDY = 'delete its folder to run it again'


def collect(benchmark: Benchmark, failed: dict[str, str], outdated: Collection[str] = ()
            ) -> dict[str, Any]:
    """Read the scores of all finished runs and summarize them.

    Args:
        failed: name of a run → why it failed.
        outdated: names of those whose scores do not count, as they are to be done again.

    Raises:
        UsageError: the evaluation does not give the score that was asked for.
    """
    runs, missing = [], []
    for run in benchmark.runs():
        folder = benchmark.run_folder(run)
        facts = {**asdict(run), 'name': run.name}
        reason = failed.get(run.name)
        if reason is None and run.name not in outdated and (folder / SCORES).is_file():
            record = read_scores(folder, ['iterations', 'seconds'], remedy=REMEDY)
            subset = read_json_object(folder / 'subset.json', ['images', 'of'], remedy=REMEDY)
            if not isinstance(subset['images'], list):
                raise UsageError(f'{folder / "subset.json"} is damaged: its images are '
                                 f'{shown(subset["images"])}, not a list; {REMEDY}')
            told = json_object(folder / RECORD) or {}
            runs.append({**facts, 'images': len(subset['images']), 'of': subset['of'],
                         'subset': subset['images'], 'data': str(told.get(DATA) or ''),
                         'scores': record['scores'],
                         'iterations': record['iterations'], 'seconds': record['seconds']})
        else:
            missing.append({**facts, 'failed': reason is not None,
                            'reason': reason or 'not run yet'})
    score = headline(runs, benchmark.score)
    runs, without = _scored(runs, score)
    missing += without
    subsets = _shared_subsets(runs)
    cells = _cells(benchmark, runs, score)
    lines = compare(runs, list(benchmark.files), score, benchmark.starts.of)
    return {
        'densessl': densessl.__version__, 'config': benchmark.config,
        'data_root': benchmark.data_root, 'options': benchmark.options,
        'initializations': {name: benchmark.weights[name].meta if file else None
                            for name, file in benchmark.files.items()},
        'baseline': benchmark.baseline.facts(),
        'blank': {} if benchmark.supervised else {SUPERVISED: f'no file given (--{SUPERVISED})'},
        'fractions': list(benchmark.fractions), 'lengths': list(benchmark.lengths),
        'seeds': benchmark.seeds, 'score': score, 'level': LEVEL, 'cells': cells,
        'comparisons': [line for line in lines if line['against'] == RANDOM],
        'from_start': [line for line in lines if line['against'] != RANDOM],
        'starts': benchmark.starts.of, 'start_notes': benchmark.starts.notes,
        'subsets': subsets, 'runs': runs, 'missing': missing}


def save(results: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``."""
    write_json(folder / RESULTS, results)


def headline(runs: Sequence[dict[str, Any]], wanted: str | None) -> str | None:
    """The name of the score that tables and tests are about; None before there is any."""
    if not runs:
        return wanted
    known = list(dict.fromkeys(name for run in runs for name, value in run['scores'].items()
                               if value is not None and math.isfinite(value)))
    if not known:
        return wanted
    if wanted is not None and wanted not in known:
        raise UsageError(f'--score {wanted}: the evaluation gives {", ".join(known)}')
    return wanted or known[0]


def _scored(runs: Sequence[dict[str, Any]], score: str | None
            ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs that have the score, and those that have none or one that is not finite: as failed,
    so that no mean and no test counts them."""
    scored, without = [], []
    for run in runs:
        value = run['scores'].get(score)
        if value is not None and math.isfinite(value):
            scored.append(run)
        else:
            facts = {key: run[key] for key in ('initialization', 'fraction', 'length', 'seed',
                                               'name')}
            without.append({**facts, 'failed': True,
                            'reason': f'its score {score} is {value}: not a figure'})
    return scored, without


def compare(runs: Sequence[dict[str, Any]], names: Sequence[str], score: str | None,
            starts: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Each initialization against random weights, and against its start if it has one, at each
    fraction and length, over the seeds that both have; p-values of all tests together are adjusted
    by Holm's method.

    Args:
        starts: name of an initialization → name of what it started from.
    """
    found: dict[tuple[str, float, float], dict[int, float]] = {}
    for run in runs:
        key = run['initialization'], run['fraction'], run['length']
        found.setdefault(key, {})[run['seed']] = run['scores'][score]
    lines = []
    for (name, fraction, length), by_seed in sorted(
            found.items(), key=lambda item: (item[0][2], names.index(item[0][0]), item[0][1])):
        for whom in (RANDOM, (starts or {}).get(name)):
            theirs = found.get((whom, fraction, length), {})
            if name != whom and (test := paired_by_seed(by_seed, theirs)):
                lines.append({'initialization': name, 'against': whom, 'fraction': fraction,
                              'length': length, **vars(test)})
    tested = [line for line in lines if line['p'] is not None]
    for line, p in zip(tested, holm([line['p'] for line in tested]), strict=True):
        line['p_adjusted'] = p
    for line in lines:
        line['verdict'] = _verdict(line)
    return lines


def _verdict(line: dict[str, Any]) -> str:
    if line['p'] is None:
        return line['reason']
    if line['p_adjusted'] >= LEVEL:
        return 'no difference shown'
    return 'higher' if line['difference'] > 0 else 'lower'


def _cells(benchmark: Benchmark, runs: Sequence[dict[str, Any]], score: str | None
           ) -> list[dict[str, Any]]:
    cells = []
    for length, name, fraction in product(benchmark.lengths, benchmark.files, benchmark.fractions):
        of_cell = [run for run in runs if (run['initialization'], run['fraction'], run['length'])
               == (name, fraction, length)]
        if of_cell:
            cells.append({'initialization': name, 'fraction': fraction, 'length': length,
                          'images': of_cell[0]['images'],
                          **vars(spread([run['scores'][score] for run in of_cell]))})
    return cells


def _shared_subsets(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lists of training images by fraction and seed, taken out of ``runs``; a comparison is
    fair only if all initializations have the same, each part of those of larger fractions, and the
    validation images are the same.

    Raises:
        UsageError: they are not, which happens when the data set was changed in between.
    """
    lists: dict[tuple[int, float], list[str]] = {}
    changed = 'the data set was changed in between; start over in another --work-dir'
    if len({(run['of'], data) for run in runs if (data := run.pop('data'))}) > 1:
        raise UsageError(f'runs had different images or labels: {changed}')
    for run in runs:
        key, images = (run['seed'], run['fraction']), run.pop('subset')
        if lists.setdefault(key, images) != images:
            raise UsageError(f'runs of fraction {key[1]:g} and seed {key[0]} were trained on '
                             f'different images: {changed}')
    for ((seed, less), few), ((of, more), many) in pairwise(sorted(lists.items())):
        if seed == of and not set(few) <= set(many):
            raise UsageError(f'runs of seed {seed} had images at fraction {less:g} that they had '
                             f'not at {more:g}: {changed}')
    return [{'fraction': fraction, 'seed': seed, 'images': lists[seed, fraction]}
            for fraction, seed in sorted((fraction, seed) for seed, fraction in lists)]
