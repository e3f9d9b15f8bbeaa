"""``densessl make_shards``: copy a folder of images, and their masks, into tar shards."""
from __future__ import annotations

import argparse
import re

from densessl.commands import resumed_by_same_command
from densessl.errors import UsageError

UNITS = {'': 1, 'K': 10 ** 3, 'M': 10 ** 6, 'G': 10 ** 9, 'T': 10 ** 12,
         'KI': 2 ** 10, 'MI': 2 ** 20, 'GI': 2 ** 30, 'TI': 2 ** 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`run` reads."""
    parser.add_argument('images', metavar='IMAGES',
                        help='folder of images or tar shards, .txt of paths or COCO .json')
    parser.add_argument('out', metavar='OUT', help='folder of the shards; an unfinished one is '
                        'resumed, one of other images or masks refused')
    parser.add_argument('--masks', metavar='STORE', help='a finished mask store of the images, '
                        'whose masks go into the shards, too')
    parser.add_argument('--shard-size', default='1GB', metavar='SIZE',
                        help='of a shard at most, such as 500MB or 2GiB (default: 1GB)')
    parser.add_argument('--workers', type=int, metavar='N', help='shards that are written at a '
                        'time (default: all cores)')


def run(args: argparse.Namespace) -> int:
    """Write the shards.

    Raises:
        UsageError: see :func:`densessl.shards.write.make_shards`.
    """
    from densessl.images.find import find_images
    from densessl.shards.write import make_shards

    size = _bytes(args.shard_size)
    images = find_images(args.images)
    print(f'{len(images)} images in {images.source}'
          + (f', masks in {args.masks}' if args.masks else '')
          + f', into shards of at most {args.shard_size} in {args.out}', flush=True)
    with resumed_by_same_command(args.out):
        summary = make_shards(images, args.out, masks=args.masks, shard_size=size,
                              workers=args.workers)
    print(f'{args.out}: {summary}')
    for name, reason in list(summary.skipped.items())[:1]:
        print(f'skipped {name}: {reason} (all: {args.out}/skipped.txt)')
    print(f'next: densessl train CONFIG --data {args.out}')
    return 0


def _bytes(text: str) -> int:
    found = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?', text.strip().upper())
    if not found or found[2] not in UNITS:
        raise UsageError(f'--shard-size takes a number of bytes such as 500MB, 1GB or 2GiB, not '
                         f'{text!r}')
    return int(float(found[1]) * UNITS[found[2]])
