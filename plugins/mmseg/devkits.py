"""Label maps laid out as PASCAL VOC's development kit or as Cityscapes is."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmseg.datasets import CityscapesDataset, PascalVOCDataset
from mmseg.registry import DATASETS

from densessl.errors import UsageError
from densessl.finetune.labelled_subset import leaf_datasets
from densessl.labels.data_root import SPLITS, devkit, listed_images, require
from densessl.labels.label_folder import visible_files
from densessl_plugins.mmseg.pixel_layouts import (
    CITYSCAPES_CLASSES,
    IDS,
    TRAIN_IDS,
    VOC_LISTS,
    VOC_MAPS,
    cityscapes_images,
    cityscapes_map,
    cityscapes_strays,
)

VOC_TYPES = ('PascalVOCDataset', 'VocLabels')
CITYSCAPES_TYPES = ('CityscapesDataset', 'CityscapesFolder')
AUGMENTED = ('train_aug.txt', 'trainaug.txt')   # the names that users give the list of 10 582
MAPS = ('SegmentationClassAug', VOC_MAPS)
VOC_LAYOUT = ('expected is VOC2012/ of a VOCdevkit: JPEGImages/NAME.jpg, '
              'SegmentationClass/NAME.png, SegmentationClassAug/NAME.png and '
              'ImageSets/Segmentation/ with train_aug.txt (or trainaug.txt, or train.txt and '
              'aug.txt) and val.txt')
CITYSCAPES_LAYOUT = ('expected are leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png and '
                     'gtFine/{train,val}/CITY/NAME_gtFine_labelTrainIds.png (or _labelIds.png)')
EVALUATED = tuple(CITYSCAPES_CLASSES)


class VocLabels(PascalVOCDataset):
    """VOC's images and label maps by a list of names; each map from ``SegmentationClassAug``, or
    from ``SegmentationClass`` where it is not in there."""

    def __init__(self, **kwargs: Any) -> None:
        prefix = {'img_path': 'JPEGImages', 'seg_map_path': MAPS[1]}
        super().__init__(**{'data_prefix': prefix, **kwargs})

    def load_data_list(self) -> list[dict[str, Any]]:
        base, images = Path(self.data_root), Path(self.data_prefix['img_path'])
        return [{'img_path': str(images / f'{name}{self.img_suffix}'),
                 'seg_map_path': str(_label_map(base, f'{name}{self.seg_map_suffix}')),
                 'label_map': self.label_map, 'reduce_zero_label': self.reduce_zero_label,
                 'seg_fields': []}
                for name in listed_images(Path(self.ann_file), images)]


class CityscapesFolder(CityscapesDataset):
    """``CityscapesDataset`` that also reads the ``labelIds`` maps which Cityscapes is delivered
    with: no files have to be made first.

    Args:
        ids: whether the maps hold ids instead of train ids.
    """

    def __init__(self, *, ids: bool = False, **kwargs: Any) -> None:
        self.to_train_ids = {value: EVALUATED.index(value) if value in EVALUATED else 255
                             for value in range(35)} if ids else None
        super().__init__(seg_map_suffix=IDS if ids else TRAIN_IDS, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        images, labels = (Path(self.data_prefix[key]) for key in ('img_path', 'seg_map_path'))
        return [{'img_path': str(image), 'seg_map_path': str(labels / cityscapes_map(
                    image.relative_to(images), self.seg_map_suffix)),
                 'label_map': self.to_train_ids or self.label_map,
                 'reduce_zero_label': self.reduce_zero_label, 'seg_fields': []}
                for image in cityscapes_images(images)]

    def strays(self) -> list[str]:
        """The label maps that no image has."""
        images, labels = (Path(self.data_prefix[key]) for key in ('img_path', 'seg_map_path'))
        return cityscapes_strays(images, labels, self.seg_map_suffix)


def register() -> None:
    """Make both known to configs; may be repeated."""
    for dataset in (VocLabels, CityscapesFolder):
        DATASETS.register_module(module=dataset, force=True)


def set_voc(cfg: Any, root: str | None) -> list[str]:
    """Point a config of VOC at a development kit.

    Returns:
        A line for each list of images.

    Raises:
        UsageError: lists, images or label maps are not there; the message says which.
    """
    leaves = {split: leaf_datasets(cfg[f'{split}_dataloader'].dataset)[0] for split in SPLITS}
    base = devkit(root or leaves['train'].get('data_root') or '', 'VOC2012', 'JPEGImages')
    base = base / 'VOC2012' if (base / 'VOC2012').is_dir() else base
    require(['JPEGImages', MAPS[1], f'{VOC_LISTS}/val.txt'], base, VOC_LAYOUT)
    lists = {'train': _training_lists(base), 'val': [f'{VOC_LISTS}/val.txt']}
    lines = []
    for split, leaf in leaves.items():
        sets = [{**leaf, 'type': 'VocLabels', 'ann_file': path, 'data_root': str(base),
                 'data_prefix': {'img_path': 'JPEGImages', 'seg_map_path': MAPS[1]}}
                for path in lists[split]]
        cfg[f'{split}_dataloader'].dataset = sets[0] if len(sets) == 1 else {
            'type': 'ConcatDataset', 'datasets': sets}
        for path in lists[split]:
            names = listed_images(base / path, base / 'JPEGImages')
            lines.append(f'{split}: {base / path}, {len(names)} images')
    cfg.test_dataloader = cfg.val_dataloader
    return lines


def set_cityscapes(cfg: Any, root: str | None) -> list[str]:
    """Point a config of Cityscapes at its folder, with whichever label maps are there.

    Returns:
        A line for each split.

    Raises:
        UsageError: images or label maps are not there; the message says which.
    """
    leaves = {split: leaf_datasets(cfg[f'{split}_dataloader'].dataset)[0] for split in SPLITS}
    base = Path(root or leaves['train'].get('data_root') or '')
    require([f'{kind}/{split}' for kind in ('leftImg8bit', 'gtFine') for split in SPLITS], base,
            CITYSCAPES_LAYOUT)
    lines = []
    for split, leaf in leaves.items():
        images = cityscapes_images(base / 'leftImg8bit' / split)
        if not images:
            raise UsageError(f'{base / "leftImg8bit" / split} holds no images; '
                             f'{CITYSCAPES_LAYOUT}')
        suffix = _suffix(base, split, images)
        leaf.update(type='CityscapesFolder', data_root=str(base), ids=suffix == IDS,
                    data_prefix={'img_path': f'leftImg8bit/{split}',
                                 'seg_map_path': f'gtFine/{split}'})
        lines.append(f'{split}: {len(images)} images in {base}, label maps *{suffix}')
    cfg.test_dataloader = cfg.val_dataloader
    return lines


def _label_map(base: Path, name: str) -> Path:
    augmented = base / MAPS[0] / Path(name).name
    return augmented if augmented.exists() else base / MAPS[1] / Path(name).name


def _training_lists(base: Path) -> list[str]:
    for name in AUGMENTED:
        for folder in (VOC_LISTS, 'ImageSets/SegmentationAug'):
            if (base / folder / name).is_file():
                return [f'{folder}/{name}']
    parts = [f'{VOC_LISTS}/train.txt', f'{VOC_LISTS}/aug.txt']
    require(parts, base, VOC_LAYOUT)
    return parts


def _suffix(base: Path, split: str, images: list[Path]) -> str:
    """The kind of label maps that most images have, train ids before ids; which lack theirs is
    found when all files are opened."""
    folder, root = base / 'leftImg8bit' / split, base / 'gtFine' / split
    maps = set(visible_files(root, {'.png'}))
    count = {suffix: sum(root / cityscapes_map(image.relative_to(folder), suffix) in maps
                         for image in images) for suffix in (TRAIN_IDS, IDS)}
    if not any(count.values()):
        first = cityscapes_map(images[0].relative_to(base / 'leftImg8bit'), IDS)
        raise UsageError(f'none of the {len(images)} images in {folder} has a label map, such as '
                         f'gtFine/{first}; {CITYSCAPES_LAYOUT}')
    return max(count, key=lambda suffix: count[suffix])
