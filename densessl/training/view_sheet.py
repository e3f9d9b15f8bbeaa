"""A sheet of what training sees: images with their crops, and both views after all augmentation."""
from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine import Config
from torch import Tensor

from densessl.errors import UsageError
from densessl.images.image_list import ImageList, UnreadableImage
from densessl.masks.find import changed_since, existing_masks, said_changed
from densessl.masks.generator import MaskGenerator
from densessl.masks.store import Masks
from densessl.pictures import figures
from densessl.pictures.lettering import write
from densessl.planning.config_check import check_config
from densessl.training.run_data import asked_masks, dataset_of, images_of
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.photometry import ViewPreprocessor
from densessl.views.photometry_draw import HSV_ADDED, NO_JITTER, NO_SOLARIZE, PARAMETERS
from densessl.views.sampler import PositionSampler

SIDE, STRIP, TEXT = 336, 22, 12    # of a panel, of the words below it and of letters, in pixels
GROUND = (214, 205, 240)     # between patches
FRAMES = ((64, 156, 255), (255, 140, 40))     # the colors of the two views


class ReadOrMade:
    """The label maps of the few images of a sheet: from a store, or made when they are asked for.

    Args:
        images: the list that the sheet is of.
        masks: label maps that are there already, or None.
        generator: makes those that are not, or None.
        changed: the positions of images that have changed since the store's were made.
    """

    remedy = 'make it again'

    def __init__(self, images: ImageList, masks: Masks | None, generator: MaskGenerator | None,
                 changed: Iterable[int] = ()) -> None:
        self.images, self.masks, self.generator = images, masks, generator
        self.changed, self.maps = frozenset(changed), (masks or generator).maps

    def where(self, i: int, which: int = 0) -> str:
        """Where the label map is, or the image that it is made of."""
        return self.masks.where(i, which) if self.masks else self.images.where(i)

    def read(self, i: int, which: int = 0) -> np.ndarray:
        """(H, W) integers of image ``i``."""
        if self.masks and (not self.generator or (i not in self.changed and self.masks.has(i))):
            return self.masks.read(i, which)
        made = self.generator.for_image(self.images.name(i), self.images.read(i))
        return made[which] if self.maps > 1 else made


def write_sheet(path: Path, cfg: Config, config: str, *, data: str | None, masks: str | None = None,
                count: int = 6) -> int:
    """Write the first ``count`` samples of a run: a row each, on the left the image with the crops
    of its views, then the views as the network gets them; region outlines if the method has masks.

    Args:
        path: the picture, a JPEG or PNG.
        cfg: the pretraining config, named ``config``.
        data: folder of images or tar shards, text file of paths or COCO JSON; the config's if None.
        masks: a mask store; if None the one of an earlier run is read, or masks are made.

    Returns:
        How many samples are in it.

    Raises:
        UsageError: wrong config, data or masks; ``path`` cannot be written.
    """
    method = check_config(cfg, config)
    images = images_of(cfg, config, data, masks)
    shown = _masks(cfg, images, masks) if method.needs_masks else None
    dataset = dataset_of(cfg, images, shown)
    preprocessor = ViewPreprocessor(**cfg.normalization)
    positions = islice(PositionSampler(len(images), 1, seed=cfg.seed), min(count, len(images)))
    rows = [sample_panels(dataset, preprocessor, position) for position in positions]
    figures.write_picture(path, figures.mosaic(rows))
    return len(rows)


def _masks(cfg: Config, images: ImageList, masks: str | None) -> ReadOrMade:
    found, generator = existing_masks(images, asked_masks(cfg, masks))
    changed = changed_since(found) if found else []
    if changed and not generator:
        raise said_changed(found, changed)
    return ReadOrMade(images, found, generator, changed)


def sample_panels(dataset: ViewDataset, preprocessor: ViewPreprocessor, position: tuple[int, int]
                  ) -> list[np.ndarray]:
    """A sample as pictures (H, W, 3): the image with its regions and the crops of its views, then
    each view as the network gets it.

    Raises:
        UsageError: it cannot be read.
    """
    n, wanted = position
    try:
        index, sample = dataset.sample(position)
        original = _original(dataset, (n, index))
    except (UnreadableImage, RuntimeError) as error:
        raise UsageError(str(error)) from error
    batch = collate([sample])
    name = dataset.images.name(index)
    if index != wanted:
        name += f' for {dataset.images.name(wanted)}, which cannot be read'
    views = preprocessor(batch)['views']
    labels = [None if view.mask is None else view.mask[0].numpy() for view in views]
    shared = (set() if labels[0] is None else
              set.intersection(*(set(np.unique(one).tolist()) for one in labels)))
    colors = {index: figures.region_color(n) for n, index in enumerate(sorted(shared))}
    panels = [_captioned(original, name, None)]
    for i, (view, mask) in enumerate(zip(views, labels, strict=True)):
        panel = _tiled(seen(view.image[0], preprocessor))
        if mask is not None and mask.shape == panel.shape[:2]:
            panel = figures.draw_regions(panel, mask, colors, lines='inside',
                                         scale=max(1, round(SIDE / len(panel))))
        words = described(batch['photometric'][i][0]) if 'photometric' in batch else ''
        panels.append(_captioned(panel, words, FRAMES[i % len(FRAMES)]))
    return panels


def _original(dataset: ViewDataset, position: tuple[int, int]) -> np.ndarray:
    """The image, small, with the outlines of its regions and the crops of its views framed."""
    n, index = position
    _, which = dataset.draw(n)
    image = dataset.images.read(index)
    boxes = np.array(crops_of(dataset, position))
    share = min(1.0, SIDE / max(image.shape[:2]))
    width, height = (max(1, round(share * side)) for side in image.shape[1::-1])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if dataset.masks:
        mask = dataset.masks.read(index, which)
        size = small.shape[1::-1]
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT)
        picture = figures.draw_regions(small, mask, scale=2, lines='bold')
    else:
        picture = figures.enlarged(small, 2)
    scaled = [tuple(int(x) for x in box) for box in (2 * share * boxes).round()]
    colors = [FRAMES[i % len(FRAMES)] for i in range(len(scaled))]
    return figures.framed(picture, scaled, colors, scale=1)


def _tiled(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) as it is; the patches (T, H, W, 3) of one view as a square grid, on a color that
    photographs seldom have, so that white and black patches end visibly."""
    if pixels.ndim == 3:
        return pixels
    columns = math.isqrt(len(pixels) - 1) + 1
    blank = np.full_like(pixels[0], GROUND)
    tiles = [*pixels, *[blank] * (-len(pixels) % columns)]
    grid = figures.mosaic([tiles[i:i + columns] for i in range(0, len(tiles), columns)], GROUND)
    return grid[:-figures.GAP, :-figures.GAP]    # no gap after the last ones


def _captioned(picture: np.ndarray, words: str, color: figures.Color | None) -> np.ndarray:
    """A panel of fixed size: the picture, as large as fits, and words on a strip below it."""
    panel = figures.fit(picture, SIDE, round(SIDE * (4 / 3 if color is None else 1)))
    strip = np.full((STRIP, panel.shape[1], 3), 255, np.uint8)
    if color is not None:
        cv2.rectangle(strip, (0, 6), (10, 16), color, -1)
    write(strip, words, 16 if color is not None else 3, 3, figures.INK, TEXT)
    return np.vstack([panel, strip])


def described(row: Tensor) -> str:
    """A sample's photometric parameters (P,) in words, those alone that change a pixel; b, c, s
    and h are the jitter's brightness (a factor, or what is added), contrast, saturation and hue."""
    value: dict[str, Any] = dict(zip(PARAMETERS, row.tolist(), strict=True))
    words = []
    if value['order'] != NO_JITTER:
        words += [f'b {value["brightness"]:+.2f} added' if value['style'] == HSV_ADDED
                  else f'b {value["brightness"]:.2f}']
        words += [f'{name[0]} {value[name]:.2f}' for name in ('contrast', 'saturation')]
        words.append(f'h {value["hue"]:+.2f}')
    if value['gray']:
        words.append('gray')
    if value['sigma']:
        words.append(f'blur {value["sigma"]:.1f}')
    if value['solarize'] != NO_SOLARIZE:
        words.append('solarized')
    return ' '.join(words)


def crops_of(dataset: ViewDataset, position: tuple[int, int]
             ) -> list[tuple[int, int, int, int]]:
    """The crops (top, left, height, width) that the views of a sample are cut from: drawn again
    in the order of ``draw_views``, since a sample is a function of its position."""
    n, index = position
    rng, _ = dataset.draw(n)
    height, width = dataset.images.size(index)
    boxes = []
    for view in dataset.views:
        boxes.append(view.frame(view.draw(rng, height, width)[0]))
        rng.random(dataset.uniforms, dtype=np.float32)
    return boxes


def seen(image: Tensor, preprocessor: ViewPreprocessor) -> np.ndarray:
    """A normalized image (…, 3, H, W) as pixels again: (…, H, W, 3) uint8 RGB."""
    image = image.flip(-3) if preprocessor.swaps else image
    image = (image * preprocessor.std[0] + preprocessor.mean[0]).clamp(0, 1)
    return (image.movedim(-3, -1).numpy() * 255).round().astype(np.uint8)
