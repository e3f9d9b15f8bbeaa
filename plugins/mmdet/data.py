"""Labelled objects as users have them: a folder laid out as COCO is, or the layout that another of
MMDetection's own datasets expects."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from densessl.errors import UsageError
from densessl.transfer.roots import SPLITS, missing_files, require, set_root
from densessl.transfer.subset import leaf_datasets
from densessl_plugins.mmdet.annotations import complete, read_annotations

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
        filled: what the file lacks and is filled in while it is read.
    """

    root: Path
    annotations: str
    images: str
    classes: dict[int, str] = field(default_factory=dict)
    files: int = 0
    objects: int = 0
    unmasked: Any = None
    filled: list[str] = field(default_factory=list)

    def read(self) -> Split:
        """Read the file and check what it says; UsageError says what is wrong with it."""
        path, images = self.root / self.annotations, self.root / self.images
        content = read_annotations(path)
        names = [str(one['file_name']) for one in content['images']]
        objects = content['annotations']
        if not names or not objects:
            raise UsageError(f'{path} lists {len(names)} images with {len(objects)} annotations; '
                             f'there must be some of both')
        missing_files([images / name for name in names], path)
        self.filled = complete(content, images, path)
        self.classes = {one['id']: str(one['name'])
                        for one in sorted(content['categories'], key=lambda one: one['id'])}
        self.files, self.objects = len(names), len(objects)
        self.unmasked = next((one['id'] for one in objects if not one.get('segmentation')), None)
        return self

    def require_masks(self, why: str) -> None:
        """UsageError unless every object has a segmentation."""
        if self.unmasked is not None:
            raise UsageError(f'the config {why} masks, but annotation {self.unmasked} in '
                             f'{self.root / self.annotations} has no segmentation; choose a config '
                             f'that predicts boxes alone, such as downstream/retinanet_r50_fpn_coco'
                             )


def set_coco(cfg: Any, root: str | None) -> list[str]:
    """Point a config of COCO at a folder laid out as COCO is; the model gets its categories."""
    leaves = {split: leaf_datasets(cfg[f'{split}_dataloader'].dataset)[0] for split in SPLITS}
    base = Path(root or leaves['train'].get('data_root') or '')
    require([], base, f'expected is a folder with {LAYOUT}')
    found = find_parts(base, leaves, {'ann_file': ANNOTATIONS, 'img': IMAGES}, LAYOUT)
    train, val = (Split(base, parts['ann_file'], parts['img']).read() for parts in found.values())
    if train.classes != val.classes:
        raise UsageError(f'{base / train.annotations} and {val.annotations} name other categories: '
                         f'{_difference(train.classes, val.classes)}')
    if _reads_masks(leaves['train'].get('pipeline')):
        train.require_masks('trains')
    if any('segm' in one.get('metric', ()) for one in evaluators(cfg)):
        val.require_masks('evaluates')
    names = tuple(train.classes.values())
    for split, leaf in zip((train, val), leaves.values(), strict=True):
        leaf.update(type='CocoFolder', data_root=str(base), ann_file=split.annotations,
                    data_prefix={'img': split.images})
        if names != CocoDataset.METAINFO['classes']:
            leaf.metainfo = {'classes': names}
    cfg.test_dataloader = cfg.val_dataloader
    for evaluator in evaluators(cfg):
        if evaluator.get('type') in ('CocoMetric', 'CocoScores'):
            evaluator.update(type='CocoScores', ann_file=str(base / val.annotations),
                             images=str(base / val.images))
    cfg.test_evaluator = cfg.val_evaluator
    set_classes(cfg.model, len(names))
    shown = ', '.join(names[:6]) + (', …' if len(names) > 6 else '')
    return [f'{base}: {train.files} training and {val.files} validation images with '
            f'{train.objects} and {val.objects} objects of {len(names)} classes ({shown})',
            *(f'{base / split.annotations} lacks, filled in while it is read: '
              f'{", ".join(split.filled)}' for split in (train, val) if split.filled)]


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
            own = leaf.get(key) or (leaf.get('data_prefix') or {}).get(key)
            known = [pattern.format(split) for pattern in patterns]
            found[split][key] = next(
                (part for part in (own, *known) if part and (base / part).exists()), '')
            if not found[split][key]:
                missing.append(f'{known[1]} (or {known[0]})')
    if missing:
        raise UsageError(f'{base} has no {", no ".join(missing)}; expected are {layout}')
    return found


def _difference(train: dict[int, str], val: dict[int, str]) -> str:
    number = next(key for key in sorted({*train, *val}) if train.get(key) != val.get(key))
    return (f'id {number} is {train.get(number, "missing")!r} in the first, '
            f'{val.get(number, "missing")!r} in the second')


def _reads_masks(pipeline: Any) -> bool:
    return any(step.get('with_mask') for step in pipeline or () if isinstance(step, dict))


def evaluators(cfg: Any) -> Iterator[Any]:
    """The metrics of a config, which names one or lists several."""
    found = cfg.get('val_evaluator') or []
    yield from [found] if isinstance(found, dict) else found
