"""Decoding no more than the crops need: its share, its time, and what it does to the pixels.

    python benchmarks/input_reduced.py [--images DIR] [--number 64]

Views of 96 px of 500×375 images are what views of 224 px are of 1170×875 ones. The yardstick is
Pillow's bicubic resize of the same crop of the whole image, which averages over what a pixel
covers, as torchvision's pipelines do.
"""
from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from input_data import prepare
from PIL import Image

from densessl.data.decode import open_image
from densessl.data.views import AugmentedView, cut_views, draw_views

SIZE = 96


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=Path, help='any folder of images')
    parser.add_argument('--number', type=int, default=64)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench_input'))
    args = parser.parse_args()
    cv2.setNumThreads(0)
    images, _, what = prepare(args.out, args.images, args.number)
    views = [AugmentedView(size=SIZE)] * 2
    milliseconds: dict[str, list[float]] = {'whole': [], 'reduced': []}
    errors: dict[str, list[float]] = {'whole': [], 'reduced': []}
    count = 0
    for n in range(4 * len(images)):
        path = images.path(n % len(images))
        stored = open_image(path)
        drawn = draw_views(views, np.random.default_rng(n), *stored.size, 1)
        reduction = min(each.view.reduction(each.box) for each in drawn)
        if reduction == 1:
            continue
        count += 1
        pixels = stored.pixels()
        wanted = [_by_pillow(pixels, each.box, each.flip) for each in drawn]
        for name, by in (('whole', 1), ('reduced', reduction)):
            start = time.process_time()
            cut = cut_views(drawn, stored.pixels(by), None, by)['image']
            milliseconds[name].append((time.process_time() - start) * 1000)
            errors[name] += [np.abs(a.astype(int) - b).mean() for a, b in
                             zip(cut, wanted, strict=True)]
    print(f'{what}\nTwo views of {SIZE} px: {count} of {4 * len(images)} samples can be decoded '
          f'at 1/2 or less; of these\n')
    print(f'  {"decoded":10} {"ms an image":>12} {"mean difference from Pillow, of 255":>38}')
    for name, values in milliseconds.items():
        print(f'  {name:10} {statistics.median(values):12.3f} {np.mean(errors[name]):38.2f}')


def _by_pillow(pixels: np.ndarray, box: tuple[int, int, int, int], flip: bool) -> np.ndarray:
    top, left, height, width = box
    view = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC,
                                          box=(left, top, left + width, top + height))
    return np.asarray(view)[:, ::-1] if flip else np.asarray(view)


if __name__ == '__main__':
    main()
