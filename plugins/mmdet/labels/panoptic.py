"""Panoptic segmentation on data laid out as COCO's panoptic part is, of any categories."""
from __future__ import annotations

import io
import math
import os
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import CocoPanopticDataset
from mmdet.datasets.api_wrappers import COCOPanoptic
from mmdet.evaluation import CocoPanopticMetric
from mmdet.registry import DATASETS, METRICS
from mmdet.structures import INSTANCE_OFFSET
from mmengine.logging import MMLogger

from densessl.errors import UsageError, shown
from densessl.files.json_files import parse_json
from densessl.finetune.labelled_subset import leaf_datasets
from densessl.labels.data_root import SPLITS, missing_files, require
from densessl.transfer.prediction import Instances, Prediction
from densessl_plugins.mmdet.data import IMAGES, evaluators, find_parts, set_classes
from densessl_plugins.mmdet.labels.annotations import wrong_ids
from densessl_plugins.mmdet.labels.finding_log import FindingLog, as_flag
from densessl_plugins.mmdet.labels.image_frames import settle_sizes
from densessl_plugins.mmdet.labels.label_source import Labels
from densessl_plugins.mmdet.labels.outlines import finite_numbers
from densessl_plugins.mmdet.panoptic_quality import OFFSET

TYPES = ('CocoPanopticDataset', 'PanopticFolder')
ANNOTATIONS = ('annotations/panoptic_{}2017.json', 'annotations/panoptic_{}.json')
MAPS = ('annotations/panoptic_{}2017', 'annotations/panoptic_{}')
LAYOUT = ('annotations/panoptic_{train,val}.json, annotations/panoptic_{train,val}/ with the PNG '
          'maps and images/{train,val}/, or with COCO’s own names panoptic_train2017.json, '
          'train2017/ …')


class ThingsFirst(COCOPanoptic):
    """Panoptic annotations with the categories in the order that the models need: things before
    stuff, each by id, as COCO's own file has them.

    Args:
        annotation_file: the JSON.
        images: the folder of its images, if the sizes that the file lacks are needed.
    """

    def __init__(self, annotation_file: str, images: str | None = None) -> None:
        self.images = None if images is None else Path(images)
        with redirect_stdout(io.StringIO()):   # "loading annotations into memory..."
            super().__init__(annotation_file)

    def createIndex(self) -> None:
        for one in self.dataset['categories']:
            one['isthing'] = as_flag(one['isthing'])               # "0" is true
        self.dataset['categories'].sort(key=lambda one: (not one['isthing'], one['id']))
        if self.images is not None:
            self.read = _settle(self.dataset, self.images)
        for one in _segments(self.dataset):
            one['iscrowd'] = as_flag(one.get('iscrowd')) or 0      # the metric asks for it
        super().createIndex()


class PanopticFolder(CocoPanopticDataset):
    """``CocoPanopticDataset`` whose labels count things first, whatever the order of the file.

    Attributes:
        read: what the file held, once it has been read.
    """

    read: Labels

    def COCOAPI(self, annotation_file: str) -> ThingsFirst:
        content = ThingsFirst(annotation_file, self.data_prefix['img'])
        self.read = content.read
        return content


class PanopticScores(CocoPanopticMetric):
    """``CocoPanopticMetric`` that counts the categories as :class:`PanopticFolder` does; its
    tables go to the log file. A quality of what the images do not hold is NaN, not 0."""

    def __init__(self, *, ann_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._coco_api = ThingsFirst(ann_file)
        self.categories = self._coco_api.cats

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        said = io.StringIO()
        with redirect_stdout(said):
            scores = super().compute_metrics(results)
        MMLogger.get_current_instance().info('\n' + said.getvalue())
        kinds = {bool(self.categories[one['category_id']]['isthing'])
                 for one in _segments(self._coco_api.dataset)}
        occurs = {'th': True in kinds, 'st': False in kinds}
        return {key: value if occurs.get(key.rpartition('_')[2], bool(kinds)) else math.nan
                for key, value in scores.items()}


def register() -> None:
    """Make both known to configs; may be repeated."""
    DATASETS.register_module(module=PanopticFolder, force=True)
    METRICS.register_module(module=PanopticScores, force=True)


def panoptic_prediction(sample: Any) -> Prediction:
    """The classes of all pixels and the things among the segments."""
    ids = sample.pred_panoptic_seg.sem_seg.squeeze(0).cpu().numpy()
    found = [number for number in np.unique(ids).tolist() if number >= INSTANCE_OFFSET]
    masks = np.array([ids == number for number in found], bool).reshape(-1, *ids.shape)
    boxes = np.array([_box(mask) for mask in masks], float).reshape(-1, 4)
    things = Instances(boxes, np.ones(len(found)), np.array(found, int) % INSTANCE_OFFSET, masks)
    return Prediction(ids % INSTANCE_OFFSET, things)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@dataclass(frozen=True)
class Content:
    """What an annotation file holds: category id → (name, whether it is a thing), counts, and the
    names of images and of PNG maps."""

    categories: dict[int, tuple[str, bool]]
    images: list[str]
    maps: list[str]
    segments: int


def set_panoptic(cfg: Any, root: str | None) -> list[str]:
    """Point a config of COCO panoptic at a folder laid out alike; the model gets its categories.

    Raises:
        UsageError: files are missing or not in the format; the message says which.
    """
    leaves = {split: leaf_datasets(cfg[f'{split}_dataloader'].dataset)[0] for split in SPLITS}
    base = Path(root or leaves['train'].get('data_root') or '')
    require([], base, f'expected is a folder with {LAYOUT}')
    found = find_parts(base, leaves, {'ann_file': ANNOTATIONS, 'img': IMAGES, 'seg': MAPS}, LAYOUT)
    content = {split: _read(base, parts) for split, parts in found.items()}
    categories = content['train'].categories
    if categories != content['val'].categories:
        raise UsageError(f'{base / found["train"]["ann_file"]} and {found["val"]["ann_file"]} name '
                         f'other categories')
    things, stuff = ([name for _, (name, thing) in sorted(categories.items()) if thing == wanted]
                     for wanted in (True, False))
    metainfo = {'classes': (*things, *stuff), 'thing_classes': tuple(things),
                'stuff_classes': tuple(stuff)}
    for split, leaf in leaves.items():
        leaf.update(type='PanopticFolder', data_root=str(base), ann_file=found[split]['ann_file'],
                    data_prefix={'img': found[split]['img'], 'seg': found[split]['seg']})
        if metainfo['classes'] != CocoPanopticDataset.METAINFO['classes']:
            leaf.metainfo = metainfo
    cfg.test_dataloader = cfg.val_dataloader
    for evaluator in evaluators(cfg):
        if evaluator.get('type') in ('CocoPanopticMetric', 'PanopticScores'):
            evaluator.update(type='PanopticScores', ann_file=str(base / found['val']['ann_file']),
                             seg_prefix=str(base / found['val']['seg']))
    cfg.test_evaluator = cfg.val_evaluator
    set_classes(cfg.model, len(things), len(stuff))
    return [f'{base}: {len(content["train"].images)} training and {len(content["val"].images)} '
            f'validation images with {content["train"].segments} and {content["val"].segments} '
            f'segments of {len(things)} things ({_shown(things)}) and {len(stuff)} kinds of stuff '
            f'({_shown(stuff)})']


def _read(base: Path, parts: dict[str, str]) -> Content:
    path = base / parts['ann_file']
    try:
        raw = parse_json(path.read_bytes())
        segments = _segments(raw)
        content = Content(
            {one['id']: (str(one['name']), bool(as_flag(one['isthing'])))
             for one in raw['categories']},
            [str(one['file_name']) for one in raw['images']],
            [str(one['file_name']) for one in raw['annotations']], len(segments))
        wrong = wrong_ids(
            {kind: [one['id'] for one in raw[kind]] for kind in ('images', 'categories')},
            {'images': [one['image_id'] for one in raw['annotations']],
             'categories': [one['category_id'] for one in segments]}) or _wrong_values(raw)
        image_of = {one['id']: str(one['file_name']) for one in raw['images']}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{path} is not in COCO’s panoptic format (images with id and file_name, '
                         f'annotations with image_id, file_name and segments_info of id, '
                         f'category_id, area and bbox, categories with isthing): {error!r}'
                         ) from error
    if wrong:
        raise UsageError(f'{path} has {wrong}')
    kinds = {thing for _, thing in content.categories.values()}
    if not content.images or len(kinds) < 2:
        raise UsageError(f'{path} lists {len(content.images)} images, and categories of '
                         f'{len(kinds)} kinds; there must be images, things and stuff')
    for one in raw['annotations']:
        image = image_of[one['image_id']]
        if one['file_name'] != Path(image).name.replace('.jpg', '.png'):
            raise UsageError(f'{path} says that {one["file_name"]} is the map of image {image}; a '
                             f'map must have the name of its image, NAME.jpg or NAME.png, and end '
                             f'in .png')
    missing_files([base / parts['img'] / name for name in content.images], path)
    missing_files([base / parts['seg'] / name for name in content.maps], path)
    return content


def _wrong_values(content: dict[str, Any]) -> str | None:
    """What the categories and annotations in a file have that cannot be used, in words."""
    for one in content['categories']:
        if type(one['id']) is not int or as_flag(one['isthing']) is None:
            return (f'a category of id {shown(one["id"])} and isthing {shown(one["isthing"])}; the '
                    f'id must be a whole number, isthing 0 or 1')
    annotated = Counter(one['image_id'] for one in content['annotations'])
    for each in content['annotations']:
        image = f'image {shown(each["image_id"])} ({shown(each["file_name"])})'
        if annotated[each['image_id']] > 1:
            return f'more than one annotation of {image}; all its segments must be in one'
        ids = Counter(one['id'] for one in each['segments_info'])
        for one in each['segments_info']:
            number, values = one['id'], [*one['bbox'], one['area']]
            if type(number) is not int or not 0 < number < OFFSET or ids[number] > 1:
                return (f'segment {shown(number)} of {image}; each must have an id of its own, a '
                        f'whole number from 1 to {OFFSET - 1}')
            if len(values) != 5 or finite_numbers(values) != values \
                    or as_flag(one.get('iscrowd')) is None:
                return (f'segment {number} of {image} with bbox {shown(one["bbox"])}, area '
                        f'{shown(one["area"])} and iscrowd {shown(one.get("iscrowd"))}; these must '
                        f'be four finite numbers, one, and 0 or 1')
    return None


def _settle(content: dict[str, Any], images: Path) -> Labels:
    """Give the images their sizes as displayed, in place, and leave out those without annotation
    and those whose segments are elsewhere; what was read."""
    log, total = FindingLog(), len(_segments(content))
    of_image = {one['image_id']: one['segments_info'] for one in content['annotations']}
    listed = len(content['images'])
    for one in content['images']:
        if one['id'] not in of_image:
            log.add('have no annotation', os.path.join(images, one['file_name']), 'unusable',
                    'images')
    content['images'] = settle_sizes([one for one in content['images'] if one['id'] in of_image],
                                     of_image, images, log)
    left = {one['id']: os.path.join(images, one['file_name']) for one in content['images']}
    content['annotations'] = [one for one in content['annotations'] if one['image_id'] in left]
    objects: Counter[str] = Counter()       # a file may be listed twice
    for number, file in left.items():
        objects[file] += len(of_image[number])
    return Labels({}, listed, total, log, objects,
                  {left[one['id']]: (one['height'], one['width']) for one in content['images']})


def _segments(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for each in content['annotations'] for one in each['segments_info']]


def _shown(names: list[str]) -> str:
    return ', '.join(names[:4]) + (', …' if len(names) > 4 else '')
