"""Label maps as users have them: a folder of images with PNG label maps, or the layout that one of
MMSegmentation's own datasets expects."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from densessl.errors import UsageError
from densessl.labels.data_root import SPLITS
from densessl.labels.label_folder import (
    LAYOUT,
    id_map,
    label_pairs,
    read_label_folder,
    stray_labels,
)
from densessl.labels.label_ids import IGNORED, LabelOptions

OPTIONS = LabelOptions('--cfg-options labels.ignore=', "--cfg-options 'labels.map=[[255,1]]'")


class LabelFolder(BaseSegDataset):
    """Images and PNG label maps of the same name below two folders.

    Args:
        ids: pixel value in the label maps → class index, where they differ; 255 for pixels
            without a label.
        given: whether the classes were named; else they are the ids that occur.
    """

    options = OPTIONS

    def __init__(self, ids: dict[int, int], given: bool = True, **kwargs: Any) -> None:
        self.given = given
        self.ids = {int(value): index for value, index in ids.items()}
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        images, labels = (Path(self.data_prefix[key]) for key in ('img_path', 'seg_map_path'))
        return [{'img_path': str(image), 'seg_map_path': str(label), 'label_map': self.ids,
                 'reduce_zero_label': False, 'seg_fields': []}
                for image, label in label_pairs(images, labels)]

    def strays(self) -> list[str]:
        """The label maps that no image has."""
        images, labels = (Path(self.data_prefix[key]) for key in ('img_path', 'seg_map_path'))
        return stray_labels(labels, (label for _, label in label_pairs(images, labels)))


def register() -> None:
    """Make :class:`LabelFolder` known to configs; may be repeated."""
    DATASETS.register_module(name='LabelFolder', module=LabelFolder, force=True)


def set_label_folder(cfg: Any, root: str | None) -> list[str]:
    """Point a config with ``labels = dict(ignore=…, map=…)`` at a folder of images with label maps.

    The classes are those of ``classes.json`` (``{"classes": [names], "palette": [[r, g, b]]}``)
    where it is there, else the ids that occur in the label maps, in their order.
    """
    if root is None:
        raise UsageError(f'--data-root is needed: a folder with {LAYOUT}')
    found = read_label_folder(Path(root), cfg.labels.get('ignore'), OPTIONS,
                              id_map(cfg.labels.get('map'), 'labels.map'))
    names, pairs, ids = found.names, found.pairs, found.meaning.ids
    for split in SPLITS:
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(data_root=str(root), ids=ids, given=found.meaning.given,
                       metainfo={'classes': names, **found.palette},
                       data_prefix={'img_path': f'images/{split}',
                                    'seg_map_path': f'labels/{split}'})
    cfg.test_dataloader = cfg.val_dataloader
    _set_classes(cfg.model, len(names))
    ignored = sorted(value for value, index in ids.items() if index == IGNORED)
    without = f', id {", ".join(map(str, ignored))} without label' if ignored else ''
    return [f'{root}: {len(pairs["train"])} training and {len(pairs["val"])} validation images, '
            f'{len(names)} classes{without}']


def _set_classes(node: Any, number: int) -> None:
    if isinstance(node, dict):
        if 'num_classes' in node:
            node['num_classes'] = number
        for value in node.values():
            _set_classes(value, number)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _set_classes(value, number)
