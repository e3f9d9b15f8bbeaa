"""COCO's dataset and metric where MMDetection's own fall short for other people's data."""
from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, METRICS
from mmengine.logging import MMLogger

from densessl_plugins.mmdet.annotations import complete

AVERAGES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')

SIZES = {'s': (0, 32 ** 2), 'm': (32 ** 2, 96 ** 2), 'l': (96 ** 2, float('inf'))}   # pixels


class ById(COCO):
    """COCO's annotations with the categories in the order of their ids, as COCO has them, and what
    the file lacks filled in.

    Args:
        annotation_file: the JSON.
        images: the folder of its images, for the sizes of those that have none in the file.
    """

    def __init__(self, annotation_file: str, images: str = '') -> None:
        self.file, self.images = Path(annotation_file), Path(images)
        with redirect_stdout(io.StringIO()):   # "loading annotations into memory..."
            super().__init__(annotation_file)

    def createIndex(self) -> None:
        complete(self.dataset, self.images, self.file)
        self.dataset['categories'].sort(key=lambda category: category['id'])
        super().createIndex()


class CocoFolder(CocoDataset):
    """``CocoDataset`` whose labels count the categories by id, of files that need not be complete.
    The stock one counts them in the order of each file, so that two splits can disagree on what a
    label means."""

    def COCOAPI(self, annotation_file: str) -> ById:
        return ById(annotation_file, self.data_prefix['img'])


class CocoScores(CocoMetric):
    """``CocoMetric`` that counts categories by id, and scores a model that predicts nothing with
    AP 0, where the stock one returns no scores at all. COCO's tables go to the log file.

    Args:
        ann_file, images: as in :class:`ById`.
    """

    def __init__(self, *, ann_file: str, images: str = '', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._coco_api = ById(ann_file, images)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        if not self.format_only and not any(len(found['labels']) for _, found in results):
            MMLogger.get_current_instance().info('nothing was predicted in any image')
            items = self.metric_items or AVERAGES
            return {f'{metric}_{item}': self._of_no_prediction(item)
                    for metric in self.metrics for item in items}
        said = io.StringIO()
        with redirect_stdout(said):
            scores = super().compute_metrics(results)
        MMLogger.get_current_instance().info('\n' + said.getvalue())
        return scores

    def _of_no_prediction(self, item: str) -> float:
        """0, or COCO's −1 where there are no objects of the sizes that ``item`` is about."""
        least, most = SIZES.get(item.rpartition('_')[2], (0, float('inf')))
        objects = self._coco_api.anns.values()
        return 0.0 if any(least <= one['area'] <= most and not one.get('iscrowd')
                          for one in objects) else -1.0


def register() -> None:
    """Make both known to configs; may be repeated."""
    DATASETS.register_module(module=CocoFolder, force=True)
    METRICS.register_module(module=CocoScores, force=True)
