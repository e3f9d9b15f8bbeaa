"""gpu_check.json as a Markdown table."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from on_gpu.record import Record

BEGIN, END = '<!-- begin: written by gpu_check.py -->', '<!-- end -->'    # in a page
PARTS = {'correct': 'Correct', 'exact': 'Exact', 'fast': 'Fast', 'learns': 'Learns'}


def markdown(record: Record) -> str:
    """Card, driver, versions, date; each figure with its goal and whether it is reached."""
    facts, found = record.content['facts'], record.measurements
    dates = sorted({one['date'] for one in found.values()})
    cards = sorted({one['card'] for one in found.values()})
    lines = [f'{facts.get("card", "")}' + (f', driver {facts["driver"]}' if 'driver' in facts
                                           else ''),
             f'{facts.get("processor", "")}', f'{facts.get("software", "")}',
             f'Measured {" to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))}'
             + (f' on several cards: {", ".join(cards)}' if len(cards) > 1 else ''), '']
    lines = [line + '  ' if line else line for line in lines]       # line breaks of Markdown
    for part, title in PARTS.items():
        measured = {name: one for name, one in found.items() if name.startswith(f'{part}: ')}
        if measured:
            lines += [f'### {title}', '', '| figure | measured | goal | |', '|---|---|---|---|']
            lines += [line for name, one in measured.items()
                      for line in rows_of(name, one, several=len(cards) > 1)] + ['']
    return '\n'.join(lines).rstrip() + '\n'


def rows_of(name: str, measured: dict[str, Any], *, several: bool) -> list[str]:
    if measured.get('error'):
        return [f'| {cell(name)} | {cell(measured["error"])} | is measured | **failed** |']
    card = f' ({measured["card"]})' if several else ''
    marks = {True: 'pass', False: '**miss**', None: ''}
    return [f'| {cell(row["figure"] + card)} | {cell(row["value"])} | {cell(row["goal"])} | '
            f'{marks[row["passed"]]} |' for row in measured['rows']]


def cell(text: str) -> str:
    """Text on one line, without what would end a cell."""
    return ' '.join(text.split()).replace('|', '\\|')


def put_table(record: Record, page: Path) -> int:
    """Write the table between the marks of a page; returns the command's exit code."""
    text = page.read_text() if page.is_file() else ''
    before, begin, rest = text.partition(BEGIN)
    end, after = rest.partition(END)[1:]
    if not (begin and end and record.measurements):
        print(f'gpu_check: {page} has no {BEGIN} … {END}' if record.measurements else
              f'gpu_check: {record.path} holds no measurement', file=sys.stderr)
        return 2
    page.write_text(f'{before}{begin}\n{markdown(record)}{end}{after}')
    return 0
