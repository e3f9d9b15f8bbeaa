"""The commands: each module adds its arguments to a parser and runs."""
from __future__ import annotations

import argparse
from typing import Any


def add_pixel_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare how stored values become pixels; :func:`pixel_arguments` reads it.

    Args:
        default: the default, in words.
    """
    parser.add_argument('--value-range', nargs='+', metavar='VALUE',
                        help='of images of more than 8 bits: the values that become black and '
                        f'white, as LOW HIGH, minmax, or percentile 1 99 (default: {default})')
    parser.add_argument('--bands', nargs='+', type=int, metavar='N', help='of a TIFF: which of its '
                        'bands, counted from 1, are red, green and blue (default: the first three)')


def pixel_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """``value_range`` and ``bands`` as the user gave them; without those that were not given."""
    from densessl.pixels.pixel_rule import parse_range
    given = {'value_range': parse_range(args.value_range), 'bands': args.bands}
    return {key: value for key, value in given.items() if value is not None}
