"""The demo's pictures: masks, view pairs and predictions, as HTML."""
from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densessl.demo.demo import BOTH, Demo
from densessl.demo.predictions import read_instances, read_label_map
from densessl.images.find import find_images
from densessl.masks.store import MaskStore
from densessl.pictures import figures, page
from densessl.pixels.decode import read_image
from densessl.training.run_data import dataset_of
from densessl.training.view_sheet import FRAMES, crops_of, seen
from densessl.transfer.prediction import Instances
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.photometry import ViewPreprocessor

SIDE = 384                                           # pixels of a panel's longer side
CERTAIN = 0.3                                        # score of the objects that are drawn


def mask_gallery(demo: Demo) -> str:
    """Unlabelled scenes with the outlines of their regions, and the regions."""
    images = find_images(demo.sample / 'unlabelled')
    masks = MaskStore(demo.masks).of(images)
    cells = []
    for i in range(min(demo.cfg.pictures.masks, len(images))):
        image, labels = images.read(i), masks.read(i)
        regions = int(labels.max()) + 1
        cells.append(page.rows([
            page.picture(figures.draw_regions(image, labels, scale=3, lines='bold'),
                         f'{regions} regions'),
            page.picture(figures.draw_regions(image, labels, scale=3, fill=0.72),
                         alt='the regions in colors'),
        ], columns=2))
    return page.rows(cells, columns=3, phone=1)


def view_gallery(demo: Demo) -> str:
    """Scenes with the crops of both views, and the views as the network sees them."""
    cfg = demo.method
    images = find_images(demo.sample / 'unlabelled')
    dataset = dataset_of(cfg, images, MaskStore(demo.masks).of(images))
    preprocessor = ViewPreprocessor(**cfg.normalization)
    cells = [page.rows(_view_panels(dataset, preprocessor, i), columns=3)
             for i in range(min(demo.cfg.pictures.views, len(images)))]
    return page.rows(cells, columns=2, phone=1)


def prediction_gallery(demo: Demo, part: Any) -> str:
    """Validation scenes: image, truth, and the predictions from both weights."""
    classes = json.loads((demo.sample / 'classes.json').read_text())
    drawn = _drawn_classes if part.draw == 'classes' else _drawn_instances
    folders = [demo.finetuning(part, weights) for weights in BOTH]
    lines = [page.rows(drawn(demo, name, folders, classes), columns=4, phone=2)
             for name in demo.shown()]
    names = classes['classes'] if part.draw == 'classes' else classes['things']
    start = len(classes['classes']) - len(names)     # things are the last of the classes
    return page.legend(zip(names, classes['palette'][start:], strict=True)) + ''.join(lines)


def _view_panels(dataset: ViewDataset, preprocessor: ViewPreprocessor, i: int) -> list[str]:
    views = preprocessor(collate([dataset[(i, i)]]))['views']
    masks = [view.mask[0].numpy() for view in views]
    shared = set.intersection(*(set(np.unique(mask).tolist()) for mask in masks))
    colors = {index: figures.region_color(n) for n, index in enumerate(sorted(shared))}
    scene = figures.framed(dataset.images.read(i), crops_of(dataset, (i, i)),
                           FRAMES)
    panels = [page.picture(_sized(scene), f'{len(shared)} regions in both',
                           'a scene with the crops of both views')]
    for number, (view, mask) in enumerate(zip(views, masks, strict=True)):
        pixels = seen(view.image[0], preprocessor)
        scale = max(1, round(SIDE / len(pixels)))
        panel = figures.draw_regions(pixels, mask, colors, scale=scale, lines='inside')
        panels.append(page.picture(_sized(panel), f'view {number + 1}', chip=FRAMES[number]))
    return panels


def _drawn_classes(demo: Demo, name: str, folders: list[Path], classes: dict[str, Any]
                   ) -> list[str]:
    image = _scene(demo, name)
    truth = cv2.imread(str(demo.sample / 'labels' / 'val' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
    colored = partial(figures.draw_regions, image, colors=dict(enumerate(classes['palette'])),
                      scale=2, fill=0.78)
    panels = [page.picture(figures.enlarged(image, 2), 'scene'),
              page.picture(colored(truth), 'truth')]
    for weights, folder in zip(BOTH, folders, strict=True):
        labels = read_label_map(folder, name)
        if labels is None:
            panels.append(page.paragraph('no prediction was kept', 'soft'))
            continue
        right = (labels == truth).mean()
        panels.append(page.picture(
            colored(labels), f'from {demo.label(weights)} weights: {right:.0%} of pixels right'))
    return panels


def _drawn_instances(demo: Demo, name: str, folders: list[Path], classes: dict[str, Any]
                     ) -> list[str]:
    image, names = _scene(demo, name), classes['things']
    palette = classes['palette'][-len(names):]

    def panel(found: Instances, caption: str) -> str:
        drawn = figures.drawn_instances(
            image, found.masks, found.boxes, [names[label] for label in found.labels],
            [palette[label] for label in found.labels])
        return page.picture(drawn, caption)

    panels = [page.picture(figures.enlarged(image, 3), 'scene'),
              panel(true_instances(demo.sample, name), 'truth')]
    for weights, folder in zip(BOTH, folders, strict=True):
        found = read_instances(folder, name)
        found = found.above(CERTAIN) if found else Instances(*[np.zeros((0, 4), int)] * 4)
        panels.append(panel(found, f'from {demo.label(weights)} weights: {len(found.labels)} '
                                   f'objects above {CERTAIN}'))
    return panels


def true_instances(sample: Path, name: str) -> Instances:
    """The annotated objects of validation scene ``name``."""
    from pycocotools import mask as rle
    coco = json.loads((sample / 'annotations' / 'instances_val.json').read_text())
    entry = next(one for one in coco['images'] if Path(one['file_name']).stem == name)
    objects = [one for one in coco['annotations'] if one['image_id'] == entry['id']]
    size = entry['height'], entry['width']
    masks = [rle.decode(rle.merge(rle.frPyObjects(one['segmentation'], *size))) for one in objects]
    boxes = np.array([one['bbox'] for one in objects], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]                     # left, top, width, height → corners
    labels = np.array([one['category_id'] - 1 for one in objects], int)   # its ids count from 1
    return Instances(boxes, np.ones(len(objects)), labels,
                     np.array(masks, bool).reshape(-1, *size))


def _scene(demo: Demo, name: str) -> np.ndarray:
    return read_image(demo.sample / 'images' / 'val' / f'{name}.jpg')


def _sized(image: np.ndarray) -> np.ndarray:
    share = SIDE / max(image.shape[:2])
    return cv2.resize(image, None, fx=share, fy=share,
                      interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC)
