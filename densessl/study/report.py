"""A study to read: Markdown for the documentation, and a page that needs nothing else."""
from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import cv2

from densessl.benchmark.report import table_of
from densessl.benchmark.tables import Rows, bullets, markdown
from densessl.pictures import page
from densessl.study import tables

PAGE, TABLE, RESULTS = 'report.html', 'results.md', 'results.json'
FEATURES = 'What the features see'
CAPTION = ('The three strongest principal components of each backbone’s last map as red, green '
           'and blue; photos of the public domain, seed {seed}.')


def study_markdown(results: Mapping[str, Any], pictures: Mapping[str, str], level: int = 2) -> str:
    """A study as a section of Markdown.

    Args:
        pictures: title → path, as the page is to name it. level: of its heading.
    """
    head = '#' * level
    parts = [f'{head} {results["title"]}', results['question'], f'**{tables.sentence(results)}**']
    for title, columns in tables.groups(results):
        if title:
            parts.append(f'{head}# {title}')
        parts.append(markdown(tables.score_rows(results, columns)))
    parts.append(bullets(tables.notes(results)))
    for title, path in pictures.items():
        parts.append(f'![{title}]({path})')
        if title == FEATURES:
            parts.append(CAPTION.format(seed=results['seeds'][0]))
    if results['comparisons']:
        parts += [f'{head}# Differences', markdown(tables.comparison_rows(results))]
    if results['weights']:
        parts += [f'{head}# Cost', markdown(tables.cost_rows(results))]
    parts.append(provenance(results))
    return '\n\n'.join(part for part in parts if part) + '\n'


def provenance(results: Mapping[str, Any]) -> str:
    """What it was measured with, in a line."""
    if not results['machines']:
        return ''
    threads = sorted({line['threads'] for line in results['cells']})
    written = sorted(line['written'][:10] for line in results['cells']) or ['?']
    dates = written[0] if written[0] == written[-1] else f'{written[0]} to {written[-1]}'
    torch = results['versions'].get('torch', '?')
    return (f'Measured on {" and ".join(results["machines"])}; '
            f'{", ".join(map(str, threads))} thread a process, PyTorch {torch}, densessl '
            f'{results["densessl"]}, {dates}.')


def study_page(results: Mapping[str, Any], pictures: Mapping[str, Path], path: Path) -> None:
    """Write a study as an HTML page with its pictures inside."""
    parts = [f'<header><h1>{escape(results["title"])}</h1>'
             f'{page.paragraph(tables.sentence(results), "lead")}</header>',
             page.paragraph(results['question'])]
    scores = [(f'<h3>{escape(title)}</h3>' if title else '')
              + _table(tables.score_rows(results, columns))
              for title, columns in tables.groups(results)]
    parts.append(page.section('Scores', *scores, *(page.paragraph(note, 'soft')
                                                   for note in tables.notes(results))))
    for title, picture in pictures.items():
        caption = CAPTION.format(seed=results['seeds'][0]) if title == FEATURES else ''
        parts.append(page.section(title, page.picture(cv2.imread(str(picture))[..., ::-1],
                                                      caption, alt=title)))
    if results['comparisons']:
        parts.append(page.section('Differences', _table(tables.comparison_rows(results))))
    if results['weights']:
        parts.append(page.section('Cost', _table(tables.cost_rows(results))))
    parts.append(page.section('How it was measured', page.paragraph(provenance(results)),
                              page.folded('Versions', page.table((), results['versions'].items()))))
    page.write_page(path, f'densessl study: {results["title"]}', '\n'.join(parts))


def _table(rows: Rows) -> str:
    """Without the signs for bold type."""
    return table_of([[one.replace('**', '') for one in row] for row in rows])
