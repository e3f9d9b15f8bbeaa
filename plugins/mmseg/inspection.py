"""What MMSegmentation's data sets hold once they are built, and what the ids in their label maps
become when it loads them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmseg.registry import DATASETS

from densessl.environment import building
from densessl.finetune.labelled_subset import leaf_datasets
from densessl.labels.data_report import DataReport, Finding
from densessl.labels.data_root import SPLITS
from densessl.labels.label_ids import IGNORED, NO_OPTIONS, UNKNOWN, MapMeaning

LOADERS = ('LoadImageFromFile', 'LoadDisplayedImage')


def inspect_data(cfg: Any) -> list[DataReport]:
    """A report of each part of the training and validation data of a config."""
    reports = []
    for split in SPLITS:
        for leaf in leaf_datasets(cfg[f'{split}_dataloader'].dataset):
            with building(f'{split}_dataloader.dataset'):
                dataset = DATASETS.build(dict(leaf))
            reports.append(_report(split, dataset, leaf.get('pipeline') or ()))
    return reports


def _report(split: str, dataset: Any, steps: Sequence[Any]) -> DataReport:
    image, label = _reads(steps, LOADERS, 'cv2'), _reads(steps, ('LoadAnnotations',), 'pillow')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    strays = getattr(dataset, 'strays', list)()
    findings = [Finding('have no image', tuple(strays), unit='label maps')] if strays else []
    return DataReport(
        split, str(dataset.ann_file or dataset.data_prefix.get('img_path') or dataset.data_root),
        len(infos), len(infos), findings=tuple(findings),
        samples=tuple((one['img_path'], one['seg_map_path'])
                      if label and one.get('seg_map_path') else (one['img_path'],)
                      for one in infos if image and one.get('img_path')),
        maps=_meaning(dataset, infos[0]) if infos else None)


def _reads(steps: Sequence[Any], names: Sequence[str], backend: str) -> bool:
    """Whether a pipeline reads files with a loader of ``names`` as it does by default. Files for
    other loaders (volumes, many channels) are of kinds that are not known here."""
    return any(str(step.get('type')).rpartition('.')[2] in names
               and step.get('imdecode_backend', backend) == backend
               and step.get('color_type', 'color') == 'color'
               for step in steps if isinstance(step, dict))


def _meaning(dataset: Any, info: dict[str, Any]) -> MapMeaning:
    """The class index of each id, by what ``LoadAnnotations`` does with them."""
    found = np.arange(256)
    if info.get('reduce_zero_label'):
        found = np.r_[255, found[:-2], 255]      # 255 − 1 is put back to 255
    loaded = found.copy()
    for value, index in (info.get('label_map') or {}).items():
        loaded[found == value] = index
    names = tuple(dataset.metainfo['classes'])
    lookup = [int(index) if 0 <= index < len(names) else
              IGNORED if index == dataset.ignore_index else UNKNOWN for index in loaded]
    return MapMeaning(names, tuple(lookup), getattr(dataset, 'options', NO_OPTIONS),
                      getattr(dataset, 'given', True))
