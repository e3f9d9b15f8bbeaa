"""Labelled objects laid out as PASCAL VOC's development kit is, of VOC's classes or of others."""
from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.datasets import VOCDataset
from mmdet.evaluation import VOCMetric
from mmdet.registry import DATASETS, METRICS

from densessl.errors import UsageError
from densessl.finetune.labelled_subset import leaf_datasets
from densessl.labels.data_root import SPLITS, devkit, require
from densessl_plugins.mmdet.data import evaluators, keep_first_leaf, set_classes
from densessl_plugins.mmdet.labels.label_files import year_folders, year_lists
from densessl_plugins.mmdet.labels.label_source import Labels, LabelSource, load_labels

TYPES = ('VOCDataset', 'VocFolder')
CLASSES = VOCDataset.METAINFO['classes']
LAYOUT = ('expected is a VOCdevkit: VOC2007/ and VOC2012/, or one year, each with '
          'Annotations/NAME.xml, ImageSets/Main/{trainval,test}.txt (or {train,val}.txt) and '
          'JPEGImages/NAME.jpg')


class VocFolder(VOCDataset):
    """``VOCDataset`` of labels that are normalized, also of other classes: the stock one has VOC's
    names printed whatever they are, as soon as a folder is called VOC2007 or VOC2012. Boxes are
    those of the stock one: the first and the last pixel, counted from 0.

    Args:
        labels: a :class:`~densessl_plugins.mmdet.labels.label_source.LabelSource` or its values;
            the list ``ann_file`` with the folders in ``data_prefix`` if it is left out.

    Attributes:
        read: what the labels held, without the content, once they have been read.
    """

    read: Labels

    def __init__(self, *, labels: LabelSource | Mapping[str, Any] | None = None, **kwargs: Any
                 ) -> None:
        self._source = labels
        super().__init__(**kwargs)
        if tuple(self._metainfo['classes']) != CLASSES:
            self._metainfo['dataset_type'] = None

    def load_data_list(self) -> list[dict[str, Any]]:
        year = Path(self.sub_data_root)
        source = LabelSource.of(self._source or LabelSource('xml', str(year), [[
            str(year / self.img_subdir), str(year / self.ann_subdir), self.ann_file]]))
        labels = load_labels(source.using(classes=self._metainfo['classes']))
        self.read = labels.counted()
        self.cat2label = {name: at for at, name in enumerate(self._metainfo['classes'])}
        of_category = {one['id']: at for at, one in enumerate(labels.content['categories'])}
        objects = defaultdict(list)
        for one in labels.content['annotations']:
            objects[one['image_id']].append(self._instance(one, of_category))
        return [{'img_path': os.path.join(source.images, one['file_name']),
                 'img_id': Path(one['file_name']).stem, 'xml_path': one['xml'],
                 'height': one['height'], 'width': one['width'], 'instances': objects[one['id']]}
                for one in labels.content['images']]

    def _instance(self, one: dict[str, Any], of_category: dict[Any, int]) -> dict[str, Any]:
        x, y, width, height = one['bbox']
        box = [int(x), int(y), int(x + width) - 1, int(y + height) - 1]
        small = self.bbox_min_size is not None and min(
            box[2] - box[0], box[3] - box[1]) < self.bbox_min_size
        return {'bbox': box, 'bbox_label': of_category[one['category_id']],
                'ignore_flag': int(bool(one['iscrowd'] or small))}


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


def is_devkit(root: str | None) -> bool:
    """Whether a folder, or the VOCdevkit in it, has a year of VOC; True for None, the config's own
    folder."""
    return root is None or bool(year_folders(Path(root)))


def set_voc(cfg: Any, root: str | None) -> list[str]:
    """Point a config of VOC at a development kit, and the model at the classes that occur in it.
    Where the years of the config are not all there, those that are take their place.

    Returns:
        A line for each list of images.

    Raises:
        UsageError: lists, annotations or images are not there; the message says which.
    """
    leaves = [leaf for split in SPLITS
             for leaf in leaf_datasets(cfg[f'{split}_dataloader'].dataset)]
    base = devkit(root or leaves[0].get('data_root') or '', 'VOC2007', 'VOC2012')
    wanted = {path: None for leaf in leaves for path in _paths(leaf)}   # in order, each once
    years = {Path(path).parts[0] for path in wanted}
    found = year_folders(base)
    if found and not years <= {year.name for year in found}:
        leaves = _take_years(cfg, found)
    else:
        require(list(wanted), base, LAYOUT)
        for leaf in leaves:
            listed, annotations, images = (str(base / path) for path in _paths(leaf))
            leaf.labels = LabelSource('xml', str(base), [[images, annotations, listed]]).config()
    parts = [load_labels(LabelSource.of(leaf.labels)) for leaf in leaves]
    names = {name for part in parts for name in part.classes()}
    if not names:
        raise UsageError(f'the annotations in {base} hold no objects')
    classes = CLASSES if names <= set(CLASSES) else tuple(sorted(names))
    for leaf in leaves:
        leaf.update(type='VocFolder', data_root=str(base), metainfo={'classes': classes})
    for evaluator in evaluators(cfg):
        if evaluator.get('type') == 'VOCMetric':
            evaluator.type = 'VocScores'
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    set_classes(cfg.model, len(classes))
    shown = ', '.join(classes[:6]) + (', …' if len(classes) > 6 else '')
    lines = [f'{", ".join(one[2] for one in leaf.labels["labels"])}: {part.images} images, '
             f'{part.objects} objects' for leaf, part in zip(leaves, parts, strict=True)]
    return [*lines, f'{len(classes)} classes ({shown})']


def _take_years(cfg: Any, years: list[Path]) -> list[Any]:
    """Replace the lists of the config by those of ``years``; return the two data sets."""
    leaves = []
    for at, split in enumerate(SPLITS):
        parts = [[str(year / 'JPEGImages'), str(year / 'Annotations'), year_lists(year)[at]]
                 for year in years if year_lists(year)[at]]
        if not parts:
            raise UsageError(f'{years[0] / "ImageSets" / "Main"} has no lists for training and '
                             f'validation (trainval.txt and test.txt with annotations, or '
                             f'train.txt and val.txt); {LAYOUT}')
        leaf = keep_first_leaf(cfg[f'{split}_dataloader'].dataset)
        leaf.update(ann_file=parts[0][2], data_prefix={'sub_data_root': f'{years[0]}/'},
                    labels=LabelSource('xml', str(years[0].parent), parts).config())
        leaves.append(leaf)
    return leaves


def _paths(leaf: Any) -> list[str]:
    year = leaf.data_prefix['sub_data_root'].rstrip('/')
    return [leaf.ann_file, f'{year}/Annotations', f'{year}/JPEGImages']
