"""What the data sets of a detection config hold once MMDetection has built them, beside what is in
the files of labels."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import DATASETS

from densessl.environment import building
from densessl.finetune.labelled_subset import leaf_datasets
from densessl.labels.data_report import DataReport
from densessl.labels.data_root import SPLITS
from densessl_plugins.mmdet.labels.finding_log import FindingLog
from densessl_plugins.mmdet.labels.label_source import LabelSource


def inspect_objects(cfg: Any) -> Iterator[DataReport]:
    """A report for each data set for training and validation, in the order of the config.

    Raises:
        UsageError: one cannot be built.
    """
    for split in SPLITS:
        for leaf in leaf_datasets(cfg[f'{split}_dataloader'].dataset):
            with building(f'{split}_dataloader.dataset'):
                yield _report(split, leaf)


def _report(split: str, leaf: Mapping[str, Any]) -> DataReport:
    known = leaf.get('type') in ('CocoFolder', 'VocFolder', 'PanopticFolder')
    whole = {'indices': None, 'pipeline': [], 'serialize_data': False} if known else {}
    dataset = DATASETS.build({**leaf, **whole})
    used: Counter[str] = Counter()
    classes: Counter[int] = Counter()
    samples, segments = [], {}
    for number in range(len(dataset)):
        info = dataset.get_data_info(number)
        objects = [one for one in _objects_of(info) if not one.get('ignore_flag')]
        used[str(info['img_path'])] += len(objects)
        classes.update(one.get('bbox_label', one.get('category')) for one in objects)
        samples.append(tuple(str(info[key]) for key in ('img_path', 'seg_map_path')
                             if info.get(key)))
        if 'segments_info' in info and info.get('seg_map_path'):
            segments[str(info['seg_map_path'])] = frozenset(
                one['id'] for one in info['segments_info'])
    about = {'samples': tuple(samples), 'segments': segments or None, 'per_class': {
        name: classes[index] for index, name in enumerate(dataset.metainfo.get('classes') or ())},
        'label_files': _label_files(dataset, leaf)}
    read = getattr(dataset, 'read', None)
    source = str(leaf.get('ann_file') or leaf.get('data_root'))
    if read is None:       # one of the library's own, of whose files nothing more is known
        return DataReport(split, source, len(dataset), len(dataset), used.total(), used.total(),
                          **about)
    log = FindingLog()
    _compare(read, used, leaf.get('filter_cfg') or {}, type(dataset).__name__, log)
    return DataReport(split, source, read.images, len(dataset), read.objects, used.total(),
                      read.log.findings() + log.findings(), **about)


def _label_files(dataset: Any, leaf: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that hold the labels of a data set, as far as they are known."""
    if leaf.get('labels'):
        return LabelSource.of(leaf['labels']).files()
    path = str(getattr(dataset, 'ann_file', None) or '')
    return (path,) if os.path.isfile(path) else ()


def _objects_of(info: Mapping[str, Any]) -> Any:
    """What counts as an object: instances, or the segments of a panoptic data set."""
    return info['segments_info'] if 'segments_info' in info else info.get('instances', ())


def _compare(read: Any, used: Mapping[str, int], filters: Mapping[str, Any], name: str,
             log: FindingLog) -> None:
    """Note which images and objects that were read the data set ``name`` does not hold.

    Args:
        read: the labels as they were read. used: objects by image in the data set.
        filters: its ``filter_cfg``.
    """
    faulty = {file for one in read.log.findings() if one.kind == 'unusable' for file in one.files}
    least = filters.get('min_size', 0)
    for path, number in read.by_image.items():
        if path not in used:
            if min(read.sizes[path]) < least:
                words = f'smaller than {least} pixels, which filter_cfg.min_size leaves out'
                log.add(f'are {words}', path, 'unusable', 'images')
                log.add(f'are in images {words}', path, 'unusable', 'objects', number)
            else:
                log.add('have no object to train on, which filter_cfg.filter_empty_gt leaves out',
                        path, 'unusable' if number or path in faulty else 'expected', 'images')
                log.add(f'are left out by {name}', path, 'unusable', 'objects', number)
        else:
            log.add(f'are left out by {name}', path, 'unusable', 'objects', number - used[path])
