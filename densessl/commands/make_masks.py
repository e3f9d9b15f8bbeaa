"""``densessl make_masks``: make the region masks of a folder of images, check or show them."""
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from densessl.commands import (
    add_pixel_arguments,
    parse_options,
    pixel_arguments,
    resumed_by_same_command,
)
from densessl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from densessl.images.image_list import ImageList
    from densessl.masks.generator import MaskGenerator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`run` reads."""
    parser.add_argument('images', metavar='IMAGES',
                        help='folder of images or tar shards, .txt of paths or COCO .json')
    parser.add_argument('out', metavar='OUT', help='folder of the masks; an unfinished one is '
                        'resumed, one made with other parameters refused')
    parser.add_argument('--generator', metavar='NAME', help='by default the first that the '
                        'plugins provide; a wrong name lists the known ones')
    parser.add_argument('--set', nargs='+', default=[], action='extend', metavar='KEY=VALUE',
                        dest='parameters', help="the generator's parameters, such as "
                        'scale=1000; true, false and none are read as such')
    add_pixel_arguments(parser, "OUT's, or the full range of the type")
    parser.add_argument('--workers', type=int, metavar='N', help='processes (default: all cores)')
    parser.add_argument('--resume', action='store_true', help='continue an unfinished OUT, '
                        'which is the default')
    parser.add_argument('--shard', metavar='I/N', help='make only every Nth mask from the Ith, '
                        '0 ≤ I < N: run all N anywhere, on a shared folder (default: what torchrun '
                        'or a Slurm array says, else 0/1)')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--check', action='store_true', help='make nothing: verify the masks in OUT '
                      '(missing, size against the image, labels); exit code 1 if one is wrong')
    what.add_argument('--preview', type=int, metavar='N', help='make nothing: write a picture of N '
                      'images with their masks, from OUT or, if that has none of these parameters, '
                      'made for the picture, to OUT.preview.jpg')


def run(args: argparse.Namespace) -> int:
    """Make, check or show masks; 0 if all could be made, or were skipped with a reason.

    Raises:
        UsageError: see :func:`densessl.masks.generator.make_masks`.
    """
    from densessl.images.find import find_images
    from densessl.masks.find import settle_rule
    from densessl.pixels.pixel_rule import PixelRule

    rule = PixelRule.of(pixel_arguments(args))
    images = settle_rule(find_images(args.images), rule, args.out)
    if args.check:
        return _check(args, images)
    if args.preview is not None:
        return _preview(args, images)
    return _make(args, images)


def _make(args: argparse.Namespace, images: ImageList) -> int:
    from densessl.masks.build import make_masks
    from densessl.masks.metadata import describe, spell

    shard, who = _shard(args.shard)
    generator = _generator(args)
    share = f', share {shard[0]} of {shard[1]} as {who} says' if who else ''
    print(f'{len(images)} images in {images.source}, masks by {spell(describe(generator))}{share}')
    with resumed_by_same_command(args.out):
        summary = make_masks(images, args.out, generator, workers=_workers(args), shard=shard)
    if summary.skipped:
        print(f'{len(summary.skipped)} images have no mask: {args.out}/skipped.txt says why')
    return 0


def _check(args: argparse.Namespace, images: ImageList) -> int:
    from densessl.masks.check import check_masks
    from densessl.masks.find import open_masks
    from densessl.masks.metadata import spell

    shard, _ = _shard(args.shard)
    masks = open_masks(images, args.out)
    workers = _workers(args) or os.cpu_count() or 1
    wrong = 0
    for name, problem in check_masks(masks, workers=workers, shard=shard):
        print(f'{name}: {problem}')
        wrong += 1
    unfinished = '' if masks.complete else ', which is unfinished'
    positions, listed = range(shard[0], len(images), shard[1]), masks.skipped()
    count = len(positions)
    skipped = sum(images.name(i) in listed and not masks.has(i) for i in positions)
    print(f'{count - wrong - skipped} of {count} images are right in {masks.root}{unfinished}, by '
          f'{spell(masks.info)}; {wrong} are wrong, {skipped} were skipped'
          + (f' ({masks.remedy})' if wrong else ''))
    return 1 if wrong else 0


def _preview(args: argparse.Namespace, images: ImageList) -> int:
    from densessl.masks.metadata import INFO, describe, spell
    from densessl.masks.preview import write_preview
    from densessl.masks.store import MaskStore
    from densessl.masks.tar_masks import masks_in_shards

    if args.preview < 1:
        raise UsageError(f'--preview takes a number of images, at least 1, not {args.preview}')
    out = Path(os.path.abspath(os.path.expanduser(args.out)))
    found = (MaskStore(out).of(images) if (out / INFO).exists() else
             masks_in_shards(images, out))
    asked = args.generator is not None or args.parameters or not found
    generator = _generator(args) if asked else None
    described = describe(generator) if generator else found.info
    if found and any(found.info.get(key) != described.get(key)
                     for key in ('generator', 'parameters', 'version')):
        found = None

    def masks_of(i: int, image: np.ndarray) -> list[np.ndarray]:
        if found and found.has(i):
            return [found.read(i, which) for which in range(found.maps)]
        if generator is None:
            raise LookupError(f'it has no mask in {out}')
        made = generator.for_image(images.name(i), image)
        return list(made) if generator.maps > 1 else [made]

    path = out.with_name(f'{out.name}.preview.jpg')
    count = write_preview(path, images, args.preview, masks_of)
    print(f'{path}: {count} images with masks by {spell(described)}'
          + ('' if found else ', made for this picture'))
    return 0


def _generator(args: argparse.Namespace) -> MaskGenerator:
    from densessl.plugins import load_plugins
    from densessl.registry import MASK_GENERATORS
    load_plugins()
    name = args.generator or next(iter(MASK_GENERATORS.module_dict), None)
    if name is None:
        raise UsageError('no installed plugin provides a mask generator')
    return MASK_GENERATORS.build({'type': name, **parse_options(args.parameters)})


def _workers(args: argparse.Namespace) -> int | None:
    """How many processes; those that torchrun started on this machine share its cores."""
    from densessl.machine.cores import cores
    share = int(os.environ.get('LOCAL_WORLD_SIZE') or 1)
    return args.workers if args.workers is not None or share == 1 else max(1, cores() // share)


def _shard(text: str | None) -> tuple[tuple[int, int], str]:
    """The share (I, N) that is asked for, or, if none is, the scheduler's with what says so."""
    if text is None:
        from densessl.machine.cores import shard_of_job
        i, n, who = shard_of_job(os.environ)
        return (i, n), who
    try:
        i, n = map(int, text.split('/'))
    except ValueError:
        raise UsageError(f'--shard must be I/N, such as 0/4, not {text!r}') from None
    return (i, n), ''
