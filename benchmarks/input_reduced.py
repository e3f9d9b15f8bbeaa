"""Decoding no more than the crops need: its share, its time, and what it does to the pixels.

    python benchmarks/input_reduced.py [--images DIR] [--number 64]

Views of 96 px of 500×375 images are what views of 224 px are of 1170×875 ones. The yardstick is
Pillow's bicubic resize of the whole image's crop, which averages over what a pixel covers, as
torchvision's pipelines do: of the crop as it was drawn, and of the crop as it was cut, which on a
reduced image snaps to its pixels.
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

from densessl.pixels.decode import open_image
from densessl.views.view import AugmentedView, cut_views, draw_views

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
    errors: dict[tuple[str, str], list[float]] = {}
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
        for name, by in (('whole', 1), ('reduced', reduction)):
            start = time.process_time()
            cut = cut_views(drawn, stored.pixels(by), None, by)['image']
            milliseconds[name].append((time.process_time() - start) * 1000)
            for view, each in zip(cut, drawn, strict=True):
                snapped = tuple(side // by * by for side in each.box)
                for crop, box in (('as drawn', each.box), ('as cut', snapped)):
                    wanted = _by_pillow(pixels, box, each.flip)
                    errors.setdefault((name, crop), []).append(
                        np.abs(view.astype(int) - wanted).mean())
    print(f'{what}\nTwo views of {SIZE} px: {count} of {4 * len(images)} samples can be decoded '
          f'at 1/2 or less; of these\n\n  {"":10} {"":>12}   mean difference from Pillow, of 255\n'
          f'  {"decoded":10} {"ms an image":>12} {"crop as drawn":>17} {"crop as cut":>17}')
    for name, values in milliseconds.items():
        print(f'  {name:10} {statistics.median(values):12.3f} '
              + ' '.join(f'{np.mean(errors[name, crop]):17.2f}' for crop in ('as drawn', 'as cut')))


def _by_pillow(pixels: np.ndarray, box: tuple[int, int, int, int], flip: bool) -> np.ndarray:
    top, left, height, width = box
    view = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC,
                                          box=(left, top, left + width, top + height))
    return np.asarray(view)[:, ::-1] if flip else np.asarray(view)


if __name__ == '__main__':
    main()
