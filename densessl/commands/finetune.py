"""``densessl finetune``: fine-tune and score a backbone on labelled images."""
from __future__ import annotations

import argparse

from densessl.commands import add_config_arguments, parse_options, pixel_arguments
from densessl.engine.launch import LAUNCHERS
from densessl.engine.requeue import ended, requeued_at_any_time
from densessl.errors import Interrupted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_arguments(parser)
    parser.add_argument('--backbone', required=True, metavar='FILE|random',
                        help='an exported backbone.pth, or random')
    parser.add_argument('--like', metavar='FILE', help='with --backbone random: an exported '
                        'backbone whose network (stem, norms) and input normalization the random '
                        'weights get, so that the two can be compared (default: those of the '
                        'config, with a plain stem)')
    parser.add_argument('--fraction', type=float, default=1.0,
                        help='of the training images, above 0 to 1; a smaller fraction is a subset '
                        'of a larger one (default: 1)')
    parser.add_argument('--seed', type=int, default=0,
                        help='of the fraction and of the training (default: 0)')
    parser.add_argument('--work-dir', help='where scores, logs and checkpoints go '
                        '(default: work_dirs/<config>-<backbone>-<fraction>-seed<seed>)')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the newest checkpoint in the work folder, if there is one')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace an earlier run; without it a finished run is not repeated')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is fine-tuned and how, wherever its weights come from."""
    parser.add_argument('--data-root', metavar='DIR', help='the labelled data set')
    parser.add_argument('--keep', nargs='+', default=[], metavar='LINE',
                        help='lines of the recipe that stay as the config has them: frozen, norm, '
                        'input, stem')
    parser.add_argument('--freeze', type=int, metavar='STAGES',
                        help='train only part of the network: the stem (0) and this many stages '
                        'stay as they were loaded (default: everything is trained)')
    parser.add_argument('--allow-partial', action='store_true',
                        help='go on when not every weight is loaded or the features differ')
    parser.add_argument('--no-check', dest='check', action='store_false', help='open no image and '
                        'judge no label file before training (default: all are, and remembered)')
    add_config_arguments(parser, 'downstream', "the backbone's, or the full range of the type")


def run(args: argparse.Namespace) -> int:
    """Fine-tune; the scores are printed and written to ``scores.json``. Exit code 1 if a signal
    stopped it, 75 if it is to be started again."""
    from densessl.dist import launched_rank
    from densessl.finetune.finetune import finetune
    from densessl.finetune.run import FinetuneRun
    from densessl.finetune.weights import Weights
    from densessl.pixels.pixel_rule import PixelRule
    try:
        with requeued_at_any_time():
            finetune(FinetuneRun(
                args.config, Weights.named(args.backbone), args.data_root, args.fraction, args.seed,
                options=parse_options(args.cfg_options), keep=args.keep, freeze=args.freeze,
                like=Weights.load(args.like) if args.like else None,
                pixels=PixelRule.of(pixel_arguments(args)), allow_partial=args.allow_partial,
                work_dir=args.work_dir), resume=args.resume, overwrite=args.overwrite,
                launcher=args.launcher, check=args.check)
    except Interrupted as stop:
        return ended(stop, 'finetune', launched_rank(args.launcher))
    return 0
