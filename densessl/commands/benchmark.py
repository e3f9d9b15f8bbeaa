"""``densessl benchmark``: did pretraining help, at my number of labels?"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from densessl.commands import parse_options, pixel_arguments, resumed_by_same_command
from densessl.commands.finetune import add_model_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_arguments(parser)
    parser.add_argument('--backbones', nargs='+', default=[], metavar='NAME=FILE',
                        help='exported backbones, with the names that tables and plots show; '
                        'random weights are always compared')
    parser.add_argument('--supervised', metavar='FILE',
                        help='an exported backbone with supervised weights; without it their line '
                        'of the table stays blank')
    parser.add_argument('--start', metavar='FILE', help='what the backbones started from, if it '
                        'is not beside them (start.pth): it is compared by itself')
    parser.add_argument('--no-start', action='store_true', help='leave it out')
    parser.add_argument('--fractions', nargs='+', type=float, default=[0.01, 0.1, 1.0],
                        help='of the labelled training images (default: 0.01 0.1 1)')
    parser.add_argument('--seeds', type=int, default=3,
                        help='how many; each draws its subsets and its training (default: 3)')
    parser.add_argument('--lengths', nargs='+', type=float, default=[1.0],
                        help="of the fine-tuning, as multiples of the config's own; several show "
                        'whether pretraining only speeds up or ends higher (default: 1)')
    parser.add_argument('--score', help='which score of the evaluation is compared '
                        '(default: its first)')
    parser.add_argument('--work-dir', metavar='DIR', help='where runs, results and plots go; the '
                        'same command goes on with what is there '
                        '(default: work_dirs/benchmark-<config>)')
    parser.add_argument('--jobs', type=int, metavar='N', help='runs at once '
                        '(default: one for each CUDA device; on a CPU, one)')
    parser.add_argument('--overwrite', action='store_true', help='repeat runs whose results in '
                        'the folder come from other settings')
    parser.add_argument('--keep-weights', action='store_true',
                        help='keep the checkpoints of finished runs')


def run(args: argparse.Namespace) -> int:
    """Do what is not done; 1 if a run failed or a signal stopped it."""
    from densessl.benchmark.plan import Benchmark
    from densessl.benchmark.run import run_benchmark
    from densessl.files.folders import work_folder
    folder = work_folder(args.work_dir, f'work_dirs/benchmark-{Path(args.config).stem}')
    benchmark = Benchmark(
        args.config, _named(args.backbones), args.fractions, folder, args.seeds, args.lengths,
        args.data_root, args.supervised, parse_options(args.cfg_options), args.keep,
        args.freeze, args.allow_partial, args.score, pixel_arguments(args),
        use_start=not args.no_start, start=args.start)
    with resumed_by_same_command(folder):
        results = run_benchmark(benchmark, jobs=args.jobs, overwrite=args.overwrite,
                                keep_weights=args.keep_weights, check=args.check)
    return _conclude(results, folder)


def _named(pairs: list[str]) -> dict[str, str]:
    from densessl.errors import UsageError
    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, file = pair.partition('=')
        if not (equals and name and file):
            raise UsageError(f'--backbones {pair}: NAME=FILE is needed, such as '
                             f'own=work_dirs/run/backbone.pth')
        if name in named:
            raise UsageError(f'--backbones: two are named {name!r}')
        named[name] = file
    return named


def _conclude(results: dict[str, Any], folder: Path) -> int:
    from densessl.benchmark import tables
    from densessl.benchmark.report import PAGE, TABLE
    from densessl.benchmark.results import RESULTS
    from densessl.benchmark.verdict import verdict
    print()
    for line in verdict(results):
        print(line)
    print('\n' + tables.markdown(tables.score_rows(results, tables.main_length(results))) + '\n')
    for note in tables.notes(results):
        print(note)
    print(f'\n{folder}: {RESULTS}, {TABLE}, {PAGE}')
    return 1 if results['missing'] else 0
