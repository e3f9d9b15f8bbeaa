"""``densessl predict``: draw what a fine-tuned model finds in images."""
from __future__ import annotations

import argparse
import sys

from densessl.commands import add_pixel_arguments, pixel_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('model', metavar='WORK_DIR_OR_CHECKPOINT',
                        help='the work folder of densessl finetune, or a checkpoint in one')
    parser.add_argument('images', metavar='IMAGES',
                        help='folder of images or tar shards, .txt of paths or COCO .json')
    parser.add_argument('--out', required=True, metavar='DIR',
                        help='where the pictures go, PNG files in the folders of IMAGES')
    parser.add_argument('--score', type=float, default=0.3,
                        help='objects below are not drawn (default: 0.3)')
    add_pixel_arguments(parser, "the model's, or the full range of the type")
    parser.add_argument('--overwrite', action='store_true',
                        help='replace pictures that are there already')


def run(args: argparse.Namespace) -> int:
    """Draw; 1 if no image could be read."""
    from densessl.finetune.predict import draw_predictions
    drawn = draw_predictions(args.model, args.images, args.out, score=args.score,
                             overwrite=args.overwrite, pixels=pixel_arguments(args))
    for path, reason in drawn.skipped.items():
        print(f'skipped: {path}: {reason}', file=sys.stderr)
    print(f'{len(drawn.pictures)} pictures in {args.out}'
          + (f', {len(drawn.skipped)} images skipped' if drawn.skipped else ''))
    return 0 if drawn.pictures else 1
