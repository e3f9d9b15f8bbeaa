"""``densessl report``: what pretraining runs did, and whether they are healthy, on one page."""
from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR',
                        help='work folder of a pretraining run, finished or not; several are '
                        'shown side by side')
    parser.add_argument('--out', type=Path, help='the page (default: report.html in the work '
                        'folder, of several runs in the current folder)')


def run(args: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        UsageError: there is no run in a folder, or the page cannot be written.
    """
    from densessl.errors import UsageError
    from densessl.report.write import write_report

    if args.out is not None and args.out.suffix.lower() not in ('.html', '.htm'):
        raise UsageError(f'--out must end in .html, not {args.out}')
    print(write_report(args.work_dirs, args.out))
    return 0
