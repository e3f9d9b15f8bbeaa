"""Labelled objects as users have them: a folder laid out as COCO is, or the layout that another of
MMDetection's own datasets expects."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from densessl.errors import UsageError
from densessl.transfer.roots import SPLITS, require, set_root
from densessl.transfer.subset import leaf_datasets

COCO_TYPES = ('CocoDataset', 'CocoFolder')
ANNOTATIONS = ('annotations/instances_{}2017.json', 'annotations/instances_{}.json')
IMAGES = ('{}2017', 'images/{}', 'images/{}2017')
LAYOUT = ('annotations/instances_{train,val}.json and images/{train,val}/, or with COCO’s own '
          'names instances_train2017.json, train2017/ …')


@dataclass
class Split:
    """One part of a COCO-layout data set.

    Attributes:
        annotations, images: the JSON file and the folder, relative to ``root``.
        classes: category id → name, by id.
        files, objects: numbers of images and of annotated objects.
        unmasked: id of an object without a segmentation, if there is one.
    """

    root: Path
    annotations: str
    images: str
    classes: dict[int, str] = field(default_factory=dict)
    files: int = 0
    objects: int = 0
    unmasked: Any = None

    def read(self) -> Split:
        """Read the file and check what it says; UsageError says what is wrong with it."""
        path = self.root / self.annotations
        try:
            content = json.loads(path.read_bytes())
            images, objects = content['images'], content['annotations']
            categories = sorted((int(one['id']), str(one['name']))
                                for one in content['categories'])
            self.classes = dict(categories)
            names = [str(image['file_name']) for image in images]
            used = {one['category_id'] for one in objects}
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f'{path} is not in COCO’s format (images with file_name, annotations '
                             f'with category_id, categories with id and name): {error!r}'
                             ) from error
        if not names or not objects:
            raise UsageError(f'{path} lists {len(names)} images with {len(objects)} annotations; '
                             f'there must be some of both')
        unknown = sorted(used - set(self.classes))
        if unknown:
            raise UsageError(f'{path} has annotations of category {unknown[0]}, which is not among '
                             f'its categories ({", ".join(map(str, self.classes))})')
        _require_images(self.root / self.images, names, path)
        self.files, self.objects = len(names), len(objects)
        self.unmasked = next((one.get('id') for one in objects if not one.get('segmentation')),
                             None)
        return self


def is_coco(cfg: Any) -> bool:
    """Whether training and validation each read one COCO-format file."""
    leaves = [leaf_datasets(cfg[f'{split}_dataloader'].dataset) for split in SPLITS]
    return all(len(found) == 1 and found[0].get('type') in COCO_TYPES for found in leaves)


def set_coco(cfg: Any, root: str | None) -> list[str]:
    """Point a config of COCO at a folder laid out as COCO is; the model gets its categories."""
    leaves = {split: leaf_datasets(cfg[f'{split}_dataloader'].dataset)[0] for split in SPLITS}
    base = Path(root or leaves['train'].get('data_root') or '')
    train, val = (split.read() for split in _find(base, leaves))
    if train.classes != val.classes:
        raise UsageError(f'{base / train.annotations} and {val.annotations} name other categories: '
                         f'{_difference(train.classes, val.classes)}')
    if _reads_masks(leaves['train'].get('pipeline')) and train.unmasked is not None:
        raise UsageError(f'the config trains masks, but annotation {train.unmasked} in '
                         f'{base / train.annotations} has no segmentation; choose a config that '
                         f'predicts boxes alone, such as downstream/retinanet_r50_fpn_coco')
    names = tuple(train.classes.values())
    for split, leaf in zip((train, val), leaves.values(), strict=True):
        leaf.update(type='CocoFolder', data_root=str(base), ann_file=split.annotations,
                    data_prefix={'img': split.images})
        if names != CocoDataset.METAINFO['classes']:
            leaf.metainfo = {'classes': names}
    cfg.test_dataloader = cfg.val_dataloader
    for evaluator in _evaluators(cfg):
        if evaluator.get('type') in ('CocoMetric', 'CocoScores'):
            evaluator.update(type='CocoScores', ann_file=str(base / val.annotations))
    cfg.test_evaluator = cfg.val_evaluator
    set_classes(cfg.model, len(names))
    shown = ', '.join(names[:6]) + (', …' if len(names) > 6 else '')
    return [f'{base}: {train.files} training and {val.files} validation images with '
            f'{train.objects} and {val.objects} objects of {len(names)} classes ({shown})']


def set_other(cfg: Any, root: str | None) -> list[str]:
    """Point a config of another of MMDetection's datasets at ``root``, and its metric with it."""
    old = leaf_datasets(cfg.val_dataloader.dataset)[0].get('data_root') or ''
    lines = set_root(cfg, root)
    for evaluator in _evaluators(cfg):
        path = evaluator.get('ann_file')
        if root and path and path.startswith(old):
            evaluator.ann_file = str(Path(root) / path[len(old):].lstrip('/'))
    cfg.test_evaluator = cfg.val_evaluator
    return lines


def set_classes(node: Any, number: int) -> None:
    """Set the number of classes wherever a detector's config has it. A region proposal network
    tells objects from ground and keeps its one class."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ('num_classes', 'num_things_classes'):
                node[key] = number
            elif key == 'class_weight' and isinstance(value, (list, tuple)):
                node[key] = [value[0]] * number + [value[-1]]   # the last is "no object"
            elif key != 'rpn_head':
                set_classes(value, number)
    elif isinstance(node, (list, tuple)):
        for value in node:
            set_classes(value, number)


def _find(base: Path, leaves: dict[str, Any]) -> list[Split]:
    """The files and folders of both splits, those that the config names first."""
    found, missing = [], []
    for split, leaf in leaves.items():
        parts = []
        for own, names in ((leaf.get('ann_file'), ANNOTATIONS),
                           ((leaf.get('data_prefix') or {}).get('img'), IMAGES)):
            known = [name.format(split) for name in names]
            there = [part for part in (own, *known) if part and (base / part).exists()]
            parts.append(there[0] if there else '')
            if not there:
                missing.append(f'{known[1]} (or {known[0]})')
        found.append(Split(base, *parts))
    require([], base, f'expected is a folder with {LAYOUT}')
    if missing:
        raise UsageError(f'{base} has no {", no ".join(missing)}; expected are {LAYOUT}')
    return found


def _require_images(folder: Path, names: list[str], source: Path) -> None:
    """Compare with listings of the folders: asking for each file is slow on a network."""
    there: dict[Path, set[str]] = {}
    for name in names:
        parent = (folder / name).parent
        if parent not in there:
            there[parent] = set(os.listdir(parent)) if parent.is_dir() else set()
    missing = [name for name in names
               if Path(name).name not in there[(folder / name).parent]]
    if missing:
        raise UsageError(f'{len(missing)} of the {len(names)} images that {source} lists are not '
                         f'in {folder}, such as {missing[0]}')


def _difference(train: dict[int, str], val: dict[int, str]) -> str:
    number = next(key for key in sorted({*train, *val}) if train.get(key) != val.get(key))
    return (f'id {number} is {train.get(number, "missing")!r} in the first, '
            f'{val.get(number, "missing")!r} in the second')


def _reads_masks(pipeline: Any) -> bool:
    return any(step.get('with_mask') for step in pipeline or () if isinstance(step, dict))


def _evaluators(cfg: Any) -> Iterator[Any]:
    found = cfg.get('val_evaluator') or []
    yield from [found] if isinstance(found, dict) else found
