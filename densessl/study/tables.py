"""The tables of a study, as rows of text made from its results alone."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from densessl.benchmark.tables import BLANK, Rows, test_cells
from densessl.study.plan import share
from densessl.study.results import key_of

WIDEST = 6      # columns of scores in one table


def groups(results: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The columns of a study in tables that can be read: all in one, or one for each evaluation,
    or for each of its numbers of labels; with a heading each."""
    columns = results['columns']
    if len(columns) <= WIDEST:
        return [('', columns)]
    found: dict[str, list[dict[str, Any]]] = {}
    for column in columns:
        own = [one for one in columns if one['evaluation'] == column['evaluation']]
        part = '' if len(own) <= WIDEST else f', {labels(results, column)}'
        found.setdefault(column['evaluation'] + part, []).append(column)
    return list(found.items())


def score_rows(results: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> Rows:
    """Header and rows: what was pretrained × how it was scored; the best of a column in bold."""
    headed = [(column, score) for column in columns for score in column['scores']]
    published = {(column['evaluation'], score): _published(results, column, score)
                 for column, score in headed}
    quality = {one['row']: f'{one["asa"]:.1f}' for one in results['mask_quality']}
    header = ['pretraining']
    if quality:
        header.append(f'ASA of its regions on {results["mask_quality"][0]["on"]}, %')
    for column, score in headed:
        header.append(heading(results, column, score, [one for one, _ in headed]))
        if published[column['evaluation'], score]:
            header.append('published')
    rows = [header]
    for row in results['rows']:
        line = [row['row'], *([quality.get(row['row'], BLANK)] if quality else [])]
        for column, score in headed:
            line.append(_cell(results, row['row'], column, score))
            theirs = published[column['evaluation'], score]
            if theirs:
                line.append(f'{theirs[row["row"]]:.1f}' if row['row'] in theirs else BLANK)
        rows.append(line)
    return rows


def heading(results: Mapping[str, Any], column: Mapping[str, Any], score: str,
            beside: Sequence[Mapping[str, Any]]) -> str:
    """What a column is called among those ``beside`` it."""
    parts = [column['evaluation']] if len({one['evaluation'] for one in beside}) > 1 else []
    if len({one['fraction'] for one in beside}) > 1:
        parts.append(labels(results, column))
    if len({one['length'] for one in beside}) > 1:
        parts.append(f'{column["length"]:g}×')
    if len(column['scores']) > 1 or not parts:
        parts.append(score)
    return ', '.join(parts)


def labels(results: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    """``'1/8 of the labels (46 images)'``."""
    images = images_of(results, column)
    return share(column['fraction']) + (f' ({images} images)' if images else '')


def images_of(results: Mapping[str, Any], column: Mapping[str, Any]) -> int | None:
    """How many labelled images the scores of a column are from, once one is there."""
    return min((cell['labelled_images'] for cell in results['cells']
                if key_of(cell) == key_of(column) and cell.get('labelled_images')), default=None)


def summary_of(results: Mapping[str, Any], column: Mapping[str, Any], score: str
               ) -> list[dict[str, Any]]:
    """The lines of the summary about a score of a column."""
    return [line for line in results['summary']
            if key_of(line) == key_of(column) and line['score'] == score]


def cost_rows(results: Mapping[str, Any]) -> Rows:
    """Header and rows: what each pretraining cost, as measured."""
    rows = [['pretraining', 'seeds', 'CPU-minutes', 'of which masks', 'updates', 'images seen',
             'epochs', 's a step, measured before']]
    for row in results['rows']:
        own = [line for line in results['weights'] if line['row'] == row['row']]
        if not own:
            continue
        total = [(line['cpu_seconds_of_training'] + line['cpu_seconds_of_masks']) / 60
                 for line in own]
        masks = max(line['cpu_seconds_of_masks'] for line in own) / 60
        a_step = own[0].get('cpu_seconds_a_step_measured_before')
        rows.append([row['row'], str(len(own)), _span(total, '.1f'),
                     f'{masks:.1f}' if masks else BLANK,
                     _span([line['steps'] for line in own], '.0f'),
                     _span([line['images_seen'] for line in own], ',.0f'),
                     _span([line['epochs'] for line in own], '.1f'),
                     f'{a_step:.2f}' if a_step else BLANK])
    return rows


def comparison_rows(results: Mapping[str, Any]) -> Rows:
    """Header and rows: each row against the one that the study compares with."""
    rows = [['pretraining', 'scored by', 'seeds', f'difference from {results["against"]}',
             '95 % interval', 'p', 'p adjusted']]
    for line in results['comparisons']:
        rows.append([line['row'], _scored_by(line, results), *test_cells(line)])
    return rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the tables."""
    n = max((line['n'] for line in results['summary']), default=0)
    lines = []
    scores = ', '.join(dict.fromkeys(one for column in results['columns']
                                     for one in column['scores']))
    if n > 1:
        lines.append(f'{scores}: mean ± half of the 95 % interval over seeds (Student’s t); n = 1 '
                     f'where one seed is done, which has no interval.')
    elif n == 1:
        lines.append(f'{scores} of one seed: how much it varies between seeds was not measured.')
    if any(row['cpu_minutes'] for row in results['rows']):
        lines.append('Equal compute is equal CPU time of one process with one thread: the number '
                     'of updates follows from what a step of each method was measured to take '
                     'before, masks and the start of the process included. What each '
                     'run then took is in the table of costs.')
    if results['published_in']:
        lines.append(f'Published figures: {results["published_in"]}')
    instead = {(row, config) for column in results['columns']
               for row, config in column.get('instead', {}).items()}
    lines += [f'{row} is another network: fine-tuned as {config}.' for row, config
              in sorted(instead)]
    failed = [one for one in results['missing'] if one['failed']]
    waiting = len(results['missing']) - len(failed)
    if waiting:
        lines.append(f'Unfinished: {waiting} of the study’s cells are not done.')
    lines += [f'Failed: {one["label"]}: {one["reason"]}' for one in failed]
    lines += [f'{row["row"]}: blank because {name} was not given (--data {name}=FILE).'
              for row in results['rows'] for name in row.get('not_given', ())]
    lines += [f'{row["row"]}: {row["note"]}' for row in results['rows'] if row['note']]
    return lines


def sentence(results: Mapping[str, Any]) -> str:
    """What was found in the first column, in words that claim no more than that."""
    column = results['columns'][0]
    score = column['scores'][0]
    lines = sorted(summary_of(results, column, score), key=lambda line: -line['mean'])
    if not lines:
        return 'Nothing has been measured yet.'
    found = '; '.join(f'{line["row"]} {amount(line)}' for line in lines)
    return f'{column["evaluation"]}, {labels(results, column)}, {score}: {found}.'


def amount(line: Mapping[str, Any]) -> str:
    """``'38.6 ± 0.9'``, or what there is of it."""
    if line['half_width'] is None:
        return f'{line["mean"]:.1f}'
    return f'{line["mean"]:.1f} ± {line["half_width"]:.1f}'


def _cell(results: Mapping[str, Any], row: str, column: Mapping[str, Any], score: str) -> str:
    lines = summary_of(results, column, score)
    own = next((line for line in lines if line['row'] == row), None)
    if own is None:
        return BLANK
    few = f' (n = {own["n"]})' if own['n'] < max(line['n'] for line in results['summary']) else ''
    best = len(lines) > 1 and own['mean'] == max(line['mean'] for line in lines)
    return f'**{amount(own)}**{few}' if best else amount(own) + few


def _published(results: Mapping[str, Any], column: Mapping[str, Any], score: str
               ) -> dict[str, float]:
    found = {row['row']: row['published'].get(column['evaluation'], {}).get(score)
             for row in results['rows']}
    return {key: value for key, value in found.items() if value is not None}


def _scored_by(line: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    parts = [line['evaluation']]
    if line['fraction'] < 1:
        parts.append(labels(results, line))
    if line['length'] != 1:
        parts.append(f'{line["length"]:g}×')
    return ', '.join(parts)


def _span(numbers: Iterable[float], form: str) -> str:
    low, high = (format(pick(numbers), form) for pick in (min, max))
    return low if low == high else f'{low} – {high}'
