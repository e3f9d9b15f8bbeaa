"""A picture of what every mask generator does: a row an image, a column a generator.

    python benchmarks/mask_gallery.py [--data BSDS500 | --scenes] [--out FILE.png]

``docs/masks.png`` is that of the drawn scenes: photos of a data set stay out of the project.
"""
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import mask_pictures
import numpy as np
from mask_pictures import SMALL, Picture

from densessl.demo.scenes import draw_scene
from densessl.masks.preview import HEIGHT, WIDTH
from densessl.pictures.figures import GAP, draw_regions, fit, mosaic
from densessl.registry import MASK_GENERATORS

GENERATORS = ['felzenszwalb', 'felzenszwalb_skimage', 'multiscale_felzenszwalb', 'slic', 'grid',
              'whole_image', 'label_maps']
WORDS = {'multiscale_felzenszwalb': 'multiscale_felzenszwalb, 1 of 3',
         'label_maps': 'label_maps: a person'}
HEADING, SIZE = 44, 0.8      # pixels; of letters, as OpenCV counts


def gallery(some: list[Picture], words: dict[str, str]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: every picture, then its regions by each generator with their number."""
    with tempfile.TemporaryDirectory() as folder:
        given = mask_pictures.write_first_truths(Path(folder) / 'given', some)
        configs = {config['type']: config for config in given}
        generators = {name: MASK_GENERATORS.build(configs.get(name, dict(type=name)))
                      for name in GENERATORS}
        rows = []
        for picture in some:
            row = [fit(picture.image, HEIGHT, WIDTH)]
            for generator in generators.values():
                labels = generator.for_image(f'{picture.name}.jpg', picture.image)
                labels = labels.reshape(-1, *picture.image.shape[:2])[0]
                drawn = draw_regions(picture.image, labels, fill=0.5, lines='thin')
                tile = fit(drawn, HEIGHT, WIDTH)
                count = int(labels.max()) + 1
                row.append(write(tile, f'{count} region{"s" if count > 1 else ""}', HEIGHT - 10))
            rows.append(row)
    heads = [write(np.full((HEADING, WIDTH, 3), 255, np.uint8), words.get(name, name), 30, 0)
             for name in ('image', *GENERATORS)]
    picture = mosaic(rows)
    heading = np.hstack([cv2.copyMakeBorder(head, 0, 0, 0, GAP, cv2.BORDER_CONSTANT,
                                            value=(255, 255, 255)) for head in heads])
    return np.vstack([heading, picture])


def write(tile: np.ndarray, text: str, y: int, left: int = 8) -> np.ndarray:
    """``tile`` with ``text`` whose base line is ``y`` pixels from the top, dark on a light rim; in
    smaller letters if it would not fit."""
    tile, font = np.ascontiguousarray(tile), cv2.FONT_HERSHEY_SIMPLEX
    width = cv2.getTextSize(text, font, SIZE, 2)[0][0]
    size = SIZE * min(1, (tile.shape[1] - left - 16) / width)
    for color, width in (((255, 255, 255), 6), ((20, 20, 20), 2)):
        cv2.putText(tile, text, (left, y), font, size, color, width, cv2.LINE_AA)
    return tile


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mask_pictures.add_arguments(parser)
    parser.set_defaults(images=5)
    parser.add_argument('--scenes', action='store_true', help='of drawn scenes')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench_masks/masks.png'))
    parser.add_argument('--width', type=int, default=1800, help='of the picture, in pixels')
    args = parser.parse_args()
    words = dict(WORDS)
    if args.scenes:
        some = [Picture(str(seed), scene.image, [scene.labels]) for seed in range(args.images)
                for scene in [draw_scene(seed, size=SMALL)]]
        words['label_maps'] = 'label_maps: the truth'
    else:
        _, some = mask_pictures.pictures(args.data, 100)
        some = some[::max(1, len(some) // args.images)][:args.images]
    picture = gallery(some, words)
    scale = args.width / picture.shape[1]
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(args.out), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f'{args.out}: {len(some)} images')


if __name__ == '__main__':
    main()
