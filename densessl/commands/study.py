"""``densessl study``: what a file compares, measured, in tables, curves and pages."""
from __future__ import annotations

import argparse
from pathlib import Path

from densessl.commands import resumed_by_same_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('file', metavar='FILE', type=Path,
                        help='the study, a YAML file (docs/studies.md)')
    parser.add_argument('--data', nargs='+', action='extend', default=[], metavar='NAME=DIR',
                        help='where a data set of the file is; or one folder that has each in a '
                        'folder of its name (default: $DENSESSL_STUDY_DATA, else ./data or '
                        '../shared/data)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/studies'), metavar='DIR',
                        help='cells of all studies, and a folder of results for each; the same '
                        'command goes on with what is there (default: work_dirs/studies)')
    parser.add_argument('--budget', type=float, metavar='MINUTES', help='do only what is expected '
                        'to end within these, the most telling first (default: everything)')
    parser.add_argument('--jobs', type=int, metavar='N', help='cells at once, each of one thread '
                        '(default: one for each core, on GPUs for each device)')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--dry-run', action='store_true', help='do nothing: list the cells with what '
                      'they are estimated to cost')
    what.add_argument('--write-docs', action='store_true', help='do nothing but keep the results '
                      'in FILE’s folder, and write docs/evidence.md and the README’s table from '
                      'all that are kept there')


def run(args: argparse.Namespace) -> int:
    """Do what is not done and write the results; 1 if a cell failed or a signal stopped it."""
    from densessl.study.study import AtWork
    from densessl.study.study_file import read_study
    study = AtWork(read_study(args.file), args.data, args.out, jobs=args.jobs, budget=args.budget,
                   say=lambda text: print(text, flush=True))
    if args.dry_run:
        study.list_cells()
        return 0
    if args.write_docs:
        print(', '.join(map(str, study.write_docs(args.file))))
        return 0
    with resumed_by_same_command(study.place.folder):
        return 0 if study.do() else 1
