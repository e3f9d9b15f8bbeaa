"""What the cells of a study say together: ``results.json``, from which all tables are made.

It holds no path of any machine, so that it can be kept with the file and its tables made anew.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import densessl
from densessl.benchmark.statistics import LEVEL, holm, interval, paired_by_seed
from densessl.study.cells import DONE, Cell, Place
from densessl.study.evaluating import Scoring
from densessl.study.graph import Graph, not_given, row_name
from densessl.study.plan import Evaluation, Study, Weights
from densessl.study.pretraining import Calibration, Pretraining
from densessl.study.recipe import Masks

OF_SCORINGS = ('scores', 'by_class', 'labelled_images', 'iterations')
OF_WEIGHTS = ('method', 'images', 'images_seen', 'steps', 'epochs', 'global_batch', 'sha256',
              'cpu_minutes_given', 'cpu_seconds_of_training', 'cpu_seconds_of_masks',
              'cpu_seconds_a_step_measured_before')
OF_CALIBRATIONS = ('steps', 'cpu_seconds_of_runs', 'cpu_seconds_a_step', 'cpu_seconds_to_start')
OF_QUALITIES = ('on', 'images', 'asa', 'recall', 'under')
OF_ALL = ('id', 'cpu_seconds', 'seconds', 'attempts', 'jobs', 'threads', 'written', 'densessl')


def collect(study: Study, graph: Graph, place: Place) -> dict[str, Any]:
    """Everything that is known of a study by now."""
    records = {cell.id: cell.record(place) for cell in graph.order}
    done = {key: record for key, record in records.items() if record and record['status'] == DONE}
    machines = list(dict.fromkeys(record['processor'] for record in done.values()))
    found = {
        'study': study.name, 'title': study.title, 'question': study.question,
        'densessl': densessl.__version__, 'seeds': list(study.seeds), 'device': study.device,
        'readme': study.readme,
        'against': study.against, 'published_in': study.published_in, 'machines': machines,
        'versions': next((record['versions'] for record in reversed(done.values())), {}),
        'rows': [_row(one, study, place) for one in study.weights],
        'columns': [_column(one) for one in study.evaluations],
        'cells': list(_scores(graph.scorings, done)),
        'weights': list(_lines(graph.order, done, Pretraining, OF_WEIGHTS)),
        'calibrations': list(_lines(graph.order, done, Calibration, OF_CALIBRATIONS)),
        'mask_quality': [{'row': row, **{key: done[cell.id][key] for key in OF_QUALITIES}}
                         for row, cell in graph.mask_qualities.items() if cell.id in done],
        'masks': list(_lines(graph.order, done, Masks, ('masks', 'images'))),
        'missing': [_missing(cell, records[cell.id], place) for cell in graph.order
                    if cell.id not in done]}
    return {**found, 'summary': summary(found), 'comparisons': comparisons(found)}


def _row(weights: Weights, study: Study, place: Place) -> dict[str, Any]:
    recipe = weights.config or weights.backbone or weights.weights
    return {'row': row_name(weights), 'name': weights.name, 'cpu_minutes': weights.cpu_minutes,
            'epochs': weights.epochs, 'from': recipe, 'data': list(weights.data),
            'options': {key: str(value) for key, value in weights.options.items()},
            'published': {key: dict(value) for key, value in weights.published.items()},
            'note': weights.note, 'not_given': not_given(weights, place),
            'seeds': list(study.seeds if weights.seeds is None else weights.seeds)}


def _column(evaluation: Evaluation) -> dict[str, Any]:
    kind = 'finetune' if evaluation.finetune else 'probe'
    return {'evaluation': evaluation.name, 'kind': kind, 'data': evaluation.data,
            'how': evaluation.finetune or evaluation.probe,
            'instead': dict(evaluation.instead), 'fraction': evaluation.fraction,
            'length': evaluation.length, 'scores': list(evaluation.scores)}


def key_of(line: Mapping[str, Any]) -> tuple[str, float, float]:
    """Which column a line is of."""
    return line['evaluation'], line['fraction'], line['length']


def _scores(scorings: Iterable[Scoring], done: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for cell in scorings:
        if cell.id in done:
            record = done[cell.id]
            made = cell.pretraining.id if cell.pretraining else None
            yield {'row': row_name(cell.weights), **_name(_column(cell.evaluation)),
                   'seed': cell.seed, 'weights': made,
                   **{key: record[key] for key in (*OF_SCORINGS, *OF_ALL) if key in record}}


def _lines(cells: Iterable[Cell], done: Mapping[str, Any], kind: type[Cell], keys: Sequence[str]
           ) -> Iterable[dict[str, Any]]:
    for cell in cells:
        if isinstance(cell, kind) and cell.id in done:
            record = done[cell.id]
            seed = {'seed': cell.seed} if isinstance(cell, Pretraining) else {}
            yield {'row': row_name(cell.recipe.weights), **seed,
                   'processor': record['processor'],
                   **{key: record[key] for key in (*keys, *OF_ALL) if key in record}}


def _missing(cell: Cell, record: Mapping[str, Any] | None, place: Place) -> dict[str, Any]:
    reason = (record or {}).get('reason')       # of its own: not that it needs what failed
    if reason is not None:      # without what is of this machine alone
        reason = reason.replace(f'{place.folder}/', '')
    return {'id': cell.id, 'kind': cell.kind, 'label': cell.label, 'failed': reason is not None,
            'reason': reason}


def values(found: Mapping[str, Any], row: str, column: Mapping[str, Any], score: str
           ) -> dict[int, float]:
    """The score of a row in a column by seed."""
    return {cell['seed']: cell['scores'][score] for cell in found['cells']
            if cell['row'] == row and key_of(cell) == key_of(column)
            and cell['scores'].get(score) is not None}


def summary(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean and 95 % interval over seeds of every row in every column."""
    lines = []
    for column in found['columns']:
        for score in column['scores']:
            for row in found['rows']:
                scores = values(found, row['row'], column, score)
                if scores:
                    mean, half = interval(list(scores.values()))
                    lines.append({'row': row['row'], **_name(column), 'score': score,
                                  'n': len(scores), 'mean': mean, 'half_width': half})
    return lines


def comparisons(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every row against the study's ``against`` in the headline score of every column, by paired
    tests over the seeds that both have; p-values of all of them together adjusted (Holm)."""
    if found['against'] is None:
        return []
    lines = []
    for column in found['columns']:
        score = column['scores'][0]
        for row in found['rows']:
            ours = values(found, row['row'], column, score)
            test = paired_by_seed(ours, _like(found, row, column, score))
            if row['name'] != found['against'] and test:
                lines.append({'row': row['row'], **_name(column), 'score': score, **vars(test)})
    tested = [line for line in lines if line['p'] is not None]
    for line, p in zip(tested, holm([line['p'] for line in tested]), strict=True):
        line |= {'p_adjusted': p, 'shown': p < LEVEL}
    return lines


def _like(found: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any], score: str
          ) -> dict[int, float]:
    """The scores of what a row is compared with: at its own CPU time, if there is one."""
    rivals = [one for one in found['rows'] if one['name'] == found['against']]
    same = [one for one in rivals if one['cpu_minutes'] in (row['cpu_minutes'], None)]
    return values(found, (same or rivals)[0]['row'], column, score)


def _name(column: Mapping[str, Any]) -> dict[str, Any]:
    return {key: column[key] for key in ('evaluation', 'fraction', 'length')}
