"""The documentation that studies write: ``docs/evidence.md`` and a table of the README.

Results are kept beside the study's file, in ``studies/results``, so that everything can be written
anew from them on any machine; no figure is typed by hand.
"""
from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densessl.benchmark.tables import markdown
from densessl.errors import UsageError
from densessl.files.json_files import read_json_object, write_json
from densessl.files.writing import write_text
from densessl.study import tables
from densessl.study.curves import write_curves
from densessl.study.report import FEATURES, study_markdown

BEGIN, END = '<!-- evidence: written by densessl study -->', '<!-- end of evidence -->'
INTRODUCTION = """# Evidence

Written by `densessl study FILE --write-docs` from the results in `studies/results`; no figure is
typed by hand. [studies.md](studies.md) says how to run a study, and what its words mean. The
studies' development data are small: these figures show what was measured on them and nothing
beyond.
"""
NOTHING = 'Nothing is kept there yet.\n'


def write_docs(root: Path, own: Mapping[str, Any] | None, features: Path | None) -> list[Path]:
    """Keep the results of a study and write the documentation of all that are kept.

    Args:
        root: the folder with ``studies``, ``docs`` and ``README.md``.
        own: the study's results; None if what is kept is to be written anew.
        features: the picture of its features, if there is one.

    Returns:
        The files that were written.

    Raises:
        UsageError: ``root`` has no such things.
    """
    readme, docs, kept = root / 'README.md', root / 'docs', root / 'studies' / 'results'
    for path in (readme, docs, root / 'studies'):
        if not path.exists():
            raise UsageError(f'--write-docs: there is no {path}; it writes the documentation '
                             f'beside the folder of the study’s file')
    marks = re.findall('|'.join(map(re.escape, (BEGIN, END))), readme.read_text(encoding='utf-8'))
    if marks != [BEGIN, END]:
        raise UsageError(f'--write-docs: {readme} has no line {BEGIN} with {END} after it, once '
                         f'each: its tables go between them')
    kept.mkdir(exist_ok=True)
    pictures = docs / 'evidence'
    pictures.mkdir(exist_ok=True)
    written = []
    if own is not None:
        written.append(kept / f'{own["study"]}.json')
        write_json(written[0], own)
        if features is not None:
            shutil.copyfile(features, pictures / f'{own["study"]}-features.png')
    every = [read_json_object(path, ('study', 'columns'), remedy='write it anew')
             for path in sorted(kept.glob('*.json'))]
    every.sort(key=lambda one: (not one.get('readme'), one['study']))
    drawn = {one['study']: _pictures(one, pictures) for one in every}
    sections = [study_markdown(one, drawn[one['study']]) for one in every]
    written.append(docs / 'evidence.md')
    write_text(written[-1], '\n'.join([INTRODUCTION, *(sections or [NOTHING])]))
    written.append(readme)
    write_text(readme, _with_table(readme.read_text(encoding='utf-8'), every, drawn))
    return written


def _pictures(results: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The pictures of a study as the page names them, drawn anew."""
    name = results['study']
    drawn = {title: f'evidence/{path.name}'
             for title, path in write_curves(results, folder, f'{name}-').items()}
    features = folder / f'{name}-features.png'
    return {**drawn, **({FEATURES: f'evidence/{features.name}'} if features.is_file() else {})}


def _two(pictures: Mapping[str, str]) -> dict[str, str]:
    curves = [title for title in pictures if title != FEATURES][:1]
    return {title: pictures[title] for title in [*curves, FEATURES] if title in pictures}


def _with_table(readme: str, every: list[dict[str, Any]], drawn: Mapping[str, Mapping[str, str]]
                ) -> str:
    """The README with the tables of the studies that say ``readme: true`` between its markers, and
    of each the first curve and the picture of its features."""
    parts = []
    for one in (each for each in every if each.get('readme')):
        title, columns = tables.groups(one)[0]
        name = one['study']
        parts += [f'{one["question"] or title} `densessl study studies/{name}.yaml` '
                  f'([more](docs/evidence.md)):', markdown(tables.score_rows(one, columns)),
                  tables.notes(one)[0],
                  *(f'![{title}](docs/{path})' for title, path in _two(drawn[name]).items())]
    text = '\n\n'.join(['', *parts, ''])
    return re.sub(re.escape(BEGIN) + '.*?' + re.escape(END), lambda _: BEGIN + text + END, readme,
                  flags=re.DOTALL)
