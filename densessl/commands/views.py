"""``densessl views``: a picture of the views that a config makes of some images."""
from __future__ import annotations

import argparse
from pathlib import Path

from densessl.commands import add_config_arguments, parse_options, pixel_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('--data', help='folder of images or tar shards, text file of paths, or '
                        "COCO JSON (default: the config's)")
    parser.add_argument('--masks', help='a mask store (default: the one an earlier run left in the '
                        'cache, else masks are made for the picture)')
    parser.add_argument('--out', type=Path, default=Path('views.jpg'),
                        help='the picture, .jpg or .png (default: views.jpg)')
    parser.add_argument('-n', '--number', type=int, default=6, metavar='N',
                        help='how many images (default: 6)')
    parser.add_argument('--seed', type=int, help="of the run (default: the config's)")
    add_config_arguments(parser, 'pretraining', "the config's, or the full range of the type")


def run(args: argparse.Namespace) -> int:
    """Write the picture: the first samples that a run with this config, data and seed would see.

    Raises:
        UsageError: wrong config, data, masks or numbers.
    """
    from densessl.errors import UsageError
    from densessl.planning.configured import configure
    from densessl.training.view_sheet import write_sheet

    if args.number < 1:
        raise UsageError(f'-n takes a number of images, at least 1, not {args.number}')
    if args.out.suffix.lower() not in ('.jpg', '.jpeg', '.png'):
        raise UsageError(f'--out must end in .jpg or .png, not {args.out}')
    cfg = configure(args.config, parse_options(args.cfg_options)).cfg
    cfg.update(pixel_arguments(args))
    if args.seed is not None:
        cfg.seed = args.seed
    count = write_sheet(args.out, cfg, args.config, data=args.data, masks=args.masks,
                        count=args.number)
    print(f'{args.out}: the first {count} samples of a run with {args.config}')
    return 0
