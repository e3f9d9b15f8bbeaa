"""``densessl demo``: the whole way on a built-in sample, with a report."""
from __future__ import annotations

import argparse
import time
from pathlib import Path

from densessl.commands import resumed_by_same_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('--quick', action='store_true', help='everything tiny: shows in two '
                        'minutes that the way works; its scores mean nothing')
    parser.add_argument('--out', metavar='DIR', help='folder of everything that is made '
                        '(default: work_dirs/demo, with --quick work_dirs/demo_quick); the same '
                        'command goes on with what is there')
    parser.add_argument('--seed', type=int, default=0, metavar='N',
                        help='of the sample and of all training (default: 0)')
    parser.add_argument('--fresh', action='store_true',
                        help='delete what an earlier demo left in the folder, and start over')
    parser.add_argument('--run', nargs='+', help=argparse.SUPPRESS)     # a child process does these


def run(args: argparse.Namespace) -> int:
    """Run the demo; print the scores side by side and where the report is."""
    from densessl.bounds import Seed, check_value
    from densessl.demo.run import run_demo
    from densessl.progress import duration
    check_value('--seed', args.seed, Seed)
    if args.run is not None:
        return _run_named(args)
    start = time.monotonic()
    with resumed_by_same_command():
        demo, measured = run_demo(args.out, quick=args.quick, seed=args.seed, fresh=args.fresh)
    _print_scores(demo, measured)
    print(f'\nreport: {demo.report.resolve()}\n'
          f'all of it took {duration(time.monotonic() - start)} this time')
    return 0


def _run_named(args: argparse.Namespace) -> int:
    from densessl.demo.demo import Demo, read_demo_config
    from densessl.demo.finetuning import finetune_named
    from densessl.errors import UsageError
    if not args.out or not Path(args.out, 'sample').is_dir():
        raise UsageError('--run needs the --out of a demo whose sample is drawn')
    finetune_named(Demo(read_demo_config(args.quick), Path(args.out), args.seed, args.quick),
                 args.run)
    return 0


def _print_scores(demo: object, measured: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    from densessl.demo.scores import difference, finding, mean, score_lines
    table = Table(title='measured on the validation scenes', title_justify='left', box=None,
                  header_style='bold', pad_edge=False)
    for name, justify in (('model', 'left'), ('score', 'left'), ('random weights', 'right'),
                          (f'{demo.cfg.pretraining.name} weights', 'right'),
                          ('difference', 'right')):
        table.add_column(name, justify=justify)
    for line in score_lines(demo, measured):
        table.add_row(line.model, line.score, mean(line.random), mean(line.pretrained),
                      difference(line))
    print()
    Console(highlight=False).print(table)
    print(f'\n{finding(demo, measured)}')
    if demo.quick:
        print('A quick run: these scores show that everything works, and nothing else.')
