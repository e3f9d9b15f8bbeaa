"""Labelled objects laid out as PASCAL VOC's development kit is, of VOC's classes or of others."""
from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.datasets import VOCDataset
from mmdet.evaluation import VOCMetric
from mmdet.registry import DATASETS, METRICS

from densessl.errors import UsageError
from densessl.transfer.roots import SPLITS, devkit, missing_files, read_list, require
from densessl.transfer.subset import leaf_datasets
from densessl_plugins.mmdet.data import evaluators, set_classes

TYPES = ('VOCDataset', 'VocFolder')
CLASSES = VOCDataset.METAINFO['classes']
LAYOUT = ('expected is a VOCdevkit: VOC2007/ and VOC2012/, each with Annotations/NAME.xml, '
          'ImageSets/Main/{trainval,test}.txt and JPEGImages/NAME.jpg')


class VocFolder(VOCDataset):
    """``VOCDataset``, also of other classes: the stock one has VOC's names printed whatever they
    are, as soon as a folder is called VOC2007 or VOC2012."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if tuple(self._metainfo['classes']) != CLASSES:
            self._metainfo['dataset_type'] = None


class VocScores(VOCMetric):
    """``VOCMetric`` whose figures are NaN where the images hold no object that counts, not 0."""

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        scores = super().compute_metrics(results)
        if not any(len(truth['labels']) for truth, _ in results):
            return dict.fromkeys(scores, math.nan)
        return scores


def register() -> None:
    """Make both known to configs; may be repeated."""
    DATASETS.register_module(module=VocFolder, force=True)
    METRICS.register_module(module=VocScores, force=True)


@dataclass
class Part:
    """One year's list of images: how many, and how many objects of each class."""

    images: int
    objects: Counter[str] = field(default_factory=Counter)


def set_voc(cfg: Any, root: str | None) -> list[str]:
    """Point a config of VOC at a development kit, and the model at the classes that occur in it.

    Returns:
        A line for each list of images.

    Raises:
        UsageError: lists, annotations or images are not there; the message says which.
    """
    every = [leaf for split in SPLITS
             for leaf in leaf_datasets(cfg[f'{split}_dataloader'].dataset)]
    base = devkit(root or every[0].get('data_root') or '', 'VOC2007', 'VOC2012')
    wanted = {path: None for leaf in every for path in _paths(leaf)}   # in order, each once
    require(list(wanted), base, LAYOUT)
    parts = [_read(base, leaf) for leaf in every]
    names = set().union(*(part.objects for part in parts))
    if not names:
        raise UsageError(f'the annotations in {base} hold no objects')
    classes = CLASSES if names <= set(CLASSES) else tuple(sorted(names))
    for leaf in every:
        leaf.update(type='VocFolder', data_root=str(base), metainfo={'classes': classes})
    for evaluator in evaluators(cfg):
        if evaluator.get('type') == 'VOCMetric':
            evaluator.type = 'VocScores'
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    set_classes(cfg.model, len(classes))
    shown = ', '.join(classes[:6]) + (', …' if len(classes) > 6 else '')
    lines = [f'{base / leaf.ann_file}: {part.images} images, {part.objects.total()} objects'
             for leaf, part in zip(every, parts, strict=True)]
    return [*lines, f'{len(classes)} classes ({shown})']


def _paths(leaf: Any) -> list[str]:
    year = leaf.data_prefix['sub_data_root'].rstrip('/')
    return [leaf.ann_file, f'{year}/Annotations', f'{year}/JPEGImages']


def _read(base: Path, leaf: Any) -> Part:
    """Read a list and what is annotated in its images."""
    listed, annotations, images = (base / path for path in _paths(leaf))
    names = read_list(listed)
    for folder, suffix in ((annotations, '.xml'), (images, '.jpg')):
        missing_files([folder / f'{name}{suffix}' for name in names], listed)
    part = Part(len(names))
    for name in names:
        path = annotations / f'{name}.xml'
        try:
            part.objects.update(one.findtext('name', '').strip()
                                for one in ET.parse(path).getroot().findall('object'))
        except ET.ParseError as error:
            raise UsageError(f'{path} is no XML file: {error}') from error
    return part
