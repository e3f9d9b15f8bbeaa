"""``densessl make_label_maps``: draw label maps from annotations in COCO's format."""
from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('data', metavar='DIR', help="images and annotations as COCO has them: "
                        'annotations/instances_{train,val}2017.json, {train,val}2017/')
    parser.add_argument('out', type=Path, metavar='OUT', help='images/{train,val} (links) and '
                        'labels/{train,val}, with classes.json')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='categories that are classes '
                        'beside the background, in this order; others are background (default: '
                        'all)')


def run(args: argparse.Namespace) -> int:
    """Draw; print how many images have labels."""
    from densessl.labels.from_coco import draw_label_maps
    for split, count in draw_label_maps(Path(args.data), args.out, args.classes).items():
        print(f'{split}: {count} images with label maps in {args.out}')
    return 0
