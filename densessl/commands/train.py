"""``densessl train``: pretrain a backbone on unlabelled images."""
from __future__ import annotations

import argparse
import sys

from densessl.commands import add_pixel_arguments, pixel_arguments
from densessl.errors import Interrupted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('config', help='path or name of a pretraining config')
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
    parser.add_argument('--epochs', type=int, help='passes over the images; chooses the row of '
                        'the recipe with the most epochs not above it')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE',
                        help='override keys of the config')
    add_pixel_arguments(parser, "the config's, or the full range of the type")
    parser.add_argument('--allow-smaller-negatives', action='store_true',
                        help='accept gradient accumulation although negatives and batch '
                        'statistics come from single iterations')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')


def run(args: argparse.Namespace) -> int:
    """Train; exit code 1 if a signal stopped it."""
    from densessl.config import parse_options
    from densessl.training.train import train
    try:
        train(args.config, data=args.data, masks=args.masks, work_dir=args.work_dir,
              resume=args.resume, epochs=args.epochs, launcher=args.launcher,
              options=parse_options(args.cfg_options), probe=args.probe,
              allow_smaller_negatives=args.allow_smaller_negatives,
              pixels=pixel_arguments(args))
    except Interrupted as stop:
        print(f'densessl train: {stop}', file=sys.stderr)
        return 1
    return 0
