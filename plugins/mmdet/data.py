"""Labelled objects as users have them, in any of the known layouts; or in the one that
another of MMDetection's own datasets expects."""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from densessl.errors import UsageError
from densessl.finetune.labelled_subset import leaf_datasets, set_root
from densessl.labels.data_root import SPLITS
from densessl_plugins.mmdet.labels.label_layouts import find_layout
from densessl_plugins.mmdet.labels.label_source import Labels, LabelSource, load_labels
from densessl_plugins.mmdet.labels.outlines import NO_OUTLINE

COCO_TYPES = ('CocoDataset', 'CocoFolder')
IMAGES = ('{}2017', 'images/{}', 'images/{}2017')


def set_objects(cfg: Any, root: str | None) -> list[str]:
    """Point a config of COCO or of VOC at a folder of labelled objects in any layout; the model
    gets the classes of its training data.

    Returns:
        Lines that say which layout it is, and what is in it.
    """
    leaves = {split: keep_first_leaf(cfg[f'{split}_dataloader'].dataset) for split in SPLITS}
    base = Path(os.path.abspath(root or leaves['train'].get('data_root') or ''))
    found = find_layout(base, {
        split: {'ann_file': leaf.get('ann_file'), 'img': (leaf.get('data_prefix') or {}).get('img')}
        for split, leaf in leaves.items()})
    masks = {'train': _reads_masks(leaves['train'].get('pipeline')),
             'val': any('segm' in one.get('metric', ()) for one in evaluators(cfg))}
    train = load_labels(found.train.using(masks=masks['train']))
    names = tuple(train.classes())
    sources = {'train': found.train.using(masks=masks['train'], classes=names),
               'val': found.val.using(masks=masks['val'], classes=names)}
    val = load_labels(sources['val'])
    for split, labels, does in (('train', train, 'trains'), ('val', val, 'evaluates')):
        if masks[split]:
            _require_outlines(labels, sources[split], does)
        leaves[split].update(
            type='CocoFolder', data_root=str(base), ann_file=sources[split].place,
            data_prefix={'img': sources[split].images}, labels=sources[split].config())
        if names != CocoDataset.METAINFO['classes']:
            leaves[split].metainfo = {'classes': names}
    cfg.test_dataloader = cfg.val_dataloader
    _score_by(cfg, sources['val'])
    set_classes(cfg.model, len(names))
    shown = ', '.join(names[:6]) + (', …' if len(names) > 6 else '')
    return [f'{base}: {found.words}; {train.images} training and {val.images} validation images '
            f'with {train.objects} and {val.objects} objects of {len(names)} classes ({shown})',
            *(f'{sources[split].place} lacks, filled in while it is read: {filled}'
              for split, labels in (('train', train), ('val', val))
              for filled in [labels.log.filled_words()] if filled)]


def _score_by(cfg: Any, source: LabelSource) -> None:
    """Have COCO's metrics of a config score by ``source``. VOC's go by what the data set gives."""
    for evaluator in evaluators(cfg):
        if evaluator.get('type') in ('CocoMetric', 'CocoScores'):
            evaluator.update(type='CocoScores', labels=source.config())
            for key in ('ann_file', 'images'):
                evaluator.pop(key, None)
    cfg.test_evaluator = cfg.val_evaluator


def _require_outlines(labels: Labels, source: LabelSource, does: str) -> None:
    """UsageError if no object has a segmentation. Boxes are not taken for outlines: a mask head
    that learns rectangles is worth nothing, and its scores would say the contrary."""
    if not any(labels.by_image.values()) and any(NO_OUTLINE in one.words
                                                 for one in labels.log.findings()):
        raise UsageError(f'the config {does} masks, but the objects in {source.place} have boxes '
                         f'alone and no segmentation; choose a config that predicts boxes alone, '
                         f'such as downstream/retinanet_r18_coco or '
                         f'downstream/retinanet_r50_fpn_coco')


def keep_first_leaf(dataset: Any) -> Any:
    """Leave out, of every list of data sets, all but the first; the config of the one that is
    left."""
    if 'datasets' in dataset:
        dataset['datasets'] = dataset['datasets'][:1]
        return keep_first_leaf(dataset['datasets'][0])
    return keep_first_leaf(dataset['dataset']) if 'dataset' in dataset else dataset


def set_other(cfg: Any, root: str | None) -> list[str]:
    """Point a config of another of MMDetection's datasets at ``root``, and its metric with it."""
    old = leaf_datasets(cfg.val_dataloader.dataset)[0].get('data_root') or ''
    lines = set_root(cfg, root)
    for evaluator in evaluators(cfg):
        path = evaluator.get('ann_file')
        if root and path and path.startswith(old):
            evaluator.ann_file = str(Path(root) / path[len(old):].lstrip('/'))
    cfg.test_evaluator = cfg.val_evaluator
    return lines


def set_classes(node: Any, number: int, stuff: int | None = None) -> None:
    """Set the number of classes wherever a detector's config has it. A region proposal network
    tells objects from ground and keeps its one class.

    Args:
        number: of classes; of those that are things, in a panoptic model.
        stuff: of the other classes of a panoptic model.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ('num_classes', 'num_things_classes'):
                node[key] = number
            elif key == 'num_stuff_classes' and stuff is not None:
                node[key] = stuff
            elif key == 'class_weight' and isinstance(value, (list, tuple)):
                node[key] = [value[0]] * number + [value[-1]]   # the last is "no object"
            elif key != 'rpn_head':
                set_classes(value, number, stuff)
    elif isinstance(node, (list, tuple)):
        for value in node:
            set_classes(value, number, stuff)


def find_parts(base: Path, leaves: Mapping[str, Any], wanted: Mapping[str, Sequence[str]],
               layout: str) -> dict[str, dict[str, str]]:
    """Where the parts of each split are below ``base``, those that the config names first.

    Args:
        leaves: the split's dataset in the config, by split.
        wanted: the patterns that a part may match, with ``{}`` for the split, by the part's key in
            the dataset or in its ``data_prefix``.
        layout: what is expected, for the message.

    Raises:
        UsageError: parts are missing; the message lists them all.
    """
    found: dict[str, dict[str, str]] = {}
    missing = []
    for split, leaf in leaves.items():
        found[split] = {}
        for key, patterns in wanted.items():
            configured = leaf.get(key) or (leaf.get('data_prefix') or {}).get(key)
            known = [pattern.format(split) for pattern in patterns]
            found[split][key] = next(
                (part for part in (configured, *known) if part and (base / part).exists()), '')
            if not found[split][key]:
                missing.append(f'{known[1]} (or {known[0]})')
    if missing:
        raise UsageError(f'{base} has no {", no ".join(missing)}; expected are {layout}')
    return found


def _reads_masks(pipeline: Any) -> bool:
    return any(step.get('with_mask') for step in pipeline or () if isinstance(step, dict))


def evaluators(cfg: Any) -> Iterator[Any]:
    """The metrics of a config, which names one or lists several."""
    found = cfg.get('val_evaluator') or []
    yield from [found] if isinstance(found, dict) else found
