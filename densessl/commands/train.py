"""``densessl train``: pretrain a backbone on unlabelled images."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densessl.commands import add_config_arguments, parse_options, pixel_arguments
from densessl.engine.launch import LAUNCHERS
from densessl.engine.requeue import ended, requeued_at_any_time
from densessl.errors import Interrupted, RunFailed, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('--data', help='folder of images or tar shards, text file of paths, or '
                        'COCO JSON')
    parser.add_argument('--masks', help='a mask store to use instead of making one')
    parser.add_argument('--probe', metavar='DATA', help='labelled images on which to watch the '
                        'features while they are trained: a folder of label maps, PASCAL VOC, '
                        'Cityscapes, or COCO JSON')
    parser.add_argument('--work-dir', help='where checkpoints and logs go '
                        '(default: work_dirs/<config>)')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the newest checkpoint in the work folder')
    parser.add_argument('--epochs', type=number, help='passes over the images, also a part of '
                        'one (2.5); chooses the row of the recipe with the most epochs not above '
                        'it')
    parser.add_argument('--init', metavar='WEIGHTS', help='start from these weights: an exported '
                        'backbone, a checkpoint of another run, a file that comes from elsewhere, '
                        'or TARGET.NAME for what that library publishes (it is downloaded)')
    parser.add_argument('--as', dest='network', metavar='TARGET.NAME', help='with --init: the '
                        'network that a file from elsewhere is of, if its shapes do not tell')
    parser.add_argument('--from', dest='layout', metavar='LAYOUT', help='with --init: how such a '
                        'file is laid out, as for densessl export (default: auto)')
    parser.add_argument('--freeze', type=int, metavar='N', help='with --init: the stem and the '
                        'first N stages stay as loaded, their batch norms, too')
    add_config_arguments(parser, 'pretraining', "the config's, or the full range of the type")
    parser.add_argument('--allow-smaller-negatives', action='store_true',
                        help='accept gradient accumulation although negatives and batch '
                        'statistics come from single iterations')
    parser.add_argument('--quiet', action='store_true', help='say nothing but warnings, and how '
                        'far masks are that are being made')
    parser.add_argument('--find-batch', action='store_true',
                        help='find the largest batch that fits the GPU by real steps on synthetic '
                        'views, print it with images/s, and write nothing')
    parser.add_argument('--memory-limit', type=float, metavar='GIB',
                        help='with --find-batch: use no more; on a CPU, count the tensors of a '
                        'step')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none',
                        help='what starts the processes of the run (docs/clusters.md)')
    parser.add_argument('--dry-run', action='store_true',
                        help='print ranks, addresses, batches and negatives, and start nothing')
    parser.add_argument('--processes', metavar='NODESxPROCESSES',
                        help='with --dry-run: how many there would be, such as 2x8')


def number(text: str) -> float:
    """A whole number as one, any other as a fraction."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def run(args: argparse.Namespace) -> int:
    """Train, and write the run's report, of a run that failed or was stopped, too; exit code 1 if
    a signal stopped it, 75 if it is to be started again."""
    if args.find_batch or args.memory_limit is not None:
        return _find_batch(args)
    if args.dry_run or args.processes is not None:
        return _dry_run(args)
    from densessl.dist import launched_rank
    from densessl.training.train import train
    held: list[Path] = []
    try:
        with requeued_at_any_time():
            train(args.config, data=args.data, masks=args.masks, work_dir=args.work_dir,
                  resume=args.resume, epochs=args.epochs, launcher=args.launcher,
                  options=parse_options(args.cfg_options), probe=args.probe,
                  allow_smaller_negatives=args.allow_smaller_negatives,
                  pixels=pixel_arguments(args), init=_init(args), quiet=args.quiet,
                  held=held.append)
    except Interrupted as stop:
        _report(args, held)
        return ended(stop, 'train', launched_rank(args.launcher))
    except RunFailed:
        _report(args, held)
        raise
    _report(args, held)
    return 0


def _find_batch(args: argparse.Namespace) -> int:
    from densessl.training.find_batch import find_batch
    if not args.find_batch:
        raise UsageError(f'--memory-limit {args.memory_limit:g} goes with --find-batch')
    if args.dry_run:
        raise UsageError('--find-batch and --dry-run: one at a time')
    if args.launcher != 'none':
        raise UsageError(f'--find-batch with --launcher {args.launcher}: one process finds the '
                         f'batch of one GPU; leave --launcher out')
    find_batch(args.config, options=parse_options(args.cfg_options), epochs=args.epochs,
               memory_limit=args.memory_limit, init=_init(args))
    return 0


def _dry_run(args: argparse.Namespace) -> int:
    from densessl.planning.dry_run import dry_run
    if not args.dry_run:
        raise UsageError(f'--processes {args.processes} goes with --dry-run; a run has as many as '
                         f'its launcher starts')
    if args.processes is not None and args.launcher == 'none':
        raise UsageError(f'--processes {args.processes} needs a launcher: --launcher pytorch, '
                         f'slurm or mpi')
    dry_run(args.config, options=parse_options(args.cfg_options), epochs=args.epochs,
            launcher=args.launcher, layout=args.processes,
            allow_smaller_negatives=args.allow_smaller_negatives, init=_init(args))
    return 0


def _report(args: argparse.Namespace, folders: Sequence[Path]) -> None:
    """Write the report of the run in ``folders``, if there was one; what hinders that is said, and
    changes nothing about the run."""
    from densessl.dist import launched_rank
    from densessl.report.write import write_report
    if launched_rank(args.launcher) or not folders:
        return
    try:
        path = write_report(folders)
    except (UsageError, RunFailed) as error:
        print(f'densessl train: no report: {error}', file=sys.stderr)
        return
    if not args.quiet:
        print(f'report: {path}')


def _init(args: argparse.Namespace) -> dict[str, Any]:
    """What is said of weights to start from, by the config's keys."""
    said = {'init': args.init, 'init_as': args.network, 'init_from': args.layout,
            'continuing.freeze': args.freeze}
    return {key: value for key, value in said.items() if value is not None}
