"""``densessl make_masks``: compute the region masks of a folder of images and keep them."""
from __future__ import annotations

import argparse
import sys
from ast import literal_eval
from typing import Any

from densessl.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`run` reads."""
    parser.add_argument('images', metavar='IMAGES',
                        help='folder of images, .txt of paths or COCO .json')
    parser.add_argument('out', metavar='OUT', help='folder of the masks; an unfinished one is '
                        'resumed, one made with other parameters refused')
    parser.add_argument('--generator', metavar='NAME', help='by default the first that the '
                        'plugins provide; a wrong name lists the known ones')
    parser.add_argument('--set', nargs='+', default=[], action='extend', metavar='KEY=VALUE',
                        dest='parameters', help="the generator's parameters, as scale=1000")
    parser.add_argument('--workers', type=int, metavar='N', help='processes (default: all cores)')
    parser.add_argument('--shard', default='0/1', metavar='I/N', help='make only every Nth mask '
                        'from the Ith, 0 ≤ I < N: run all N anywhere, on a shared folder')


def run(args: argparse.Namespace) -> int:
    """Make the masks; 0 if all could be made or were skipped with a reason.

    Raises:
        UsageError: see :func:`densessl.data.masks.make_masks`.
    """
    from densessl.data.images import find_images
    from densessl.data.mask_store import describe, spell
    from densessl.data.masks import make_masks
    from densessl.registry import MASK_GENERATORS

    shard = _shard(args.shard)
    parameters = dict(_parameter(text) for text in args.parameters)
    generator = MASK_GENERATORS.build({'type': args.generator or _first(), **parameters})
    images = find_images(args.images)
    print(f'{len(images)} images in {images.source}, masks by {spell(describe(generator))}')
    try:
        summary = make_masks(images, args.out, generator, workers=args.workers, shard=shard)
    except KeyboardInterrupt:
        print(f'stopped; the masks made so far are kept in {args.out}, the same command goes on '
              f'from there', file=sys.stderr)
        return 1
    if summary.skipped:
        print(f'{len(summary.skipped)} images have no mask: {args.out}/skipped.txt says why')
    return 0


def _first() -> str:
    from densessl.plugins import load_plugins
    from densessl.registry import MASK_GENERATORS
    load_plugins()
    names = list(MASK_GENERATORS.module_dict)
    if not names:
        raise UsageError('no installed plugin provides a mask generator')
    return names[0]


def _shard(text: str) -> tuple[int, int]:
    try:
        i, n = map(int, text.split('/'))
    except ValueError:
        raise UsageError(f'--shard must be I/N, such as 0/4, not {text!r}') from None
    return i, n


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals or not name:
        raise UsageError(f'--set takes KEY=VALUE, such as scale=1000, not {text!r}')
    try:
        return name, literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value                  # a word
