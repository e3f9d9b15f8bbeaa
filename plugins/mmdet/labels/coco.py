"""COCO's dataset and metric where MMDetection's own fall short for other people's data."""
from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, METRICS
from mmengine.logging import MMLogger

from densessl_plugins.mmdet.labels.label_source import Labels, LabelSource, load_labels

AVERAGES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')

SIZES = {'s': (0, 32 ** 2), 'm': (32 ** 2, 96 ** 2), 'l': (96 ** 2, float('inf'))}   # pixels


class Indexed(COCO):
    """Labels of any source as pycocotools has COCO's own."""

    def __init__(self, labels: Labels) -> None:
        with redirect_stdout(io.StringIO()):   # "creating index..."
            super().__init__()
            self.dataset = labels.content
            self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


class CocoFolder(CocoDataset):
    """``CocoDataset`` of labels of any source, normalized. Its labels are the positions of the
    classes in ``labels``; the stock one counts the categories in the order of each file, so that
    two splits can disagree on what a label means.

    Args:
        labels: a :class:`~densessl_plugins.mmdet.labels.label_source.LabelSource` or its values;
            the JSON ``ann_file`` with the images in ``data_prefix`` if it is left out.

    Attributes:
        read: what the labels held, without the content, once they have been read.
    """

    read: Labels

    def __init__(self, *, labels: LabelSource | Mapping[str, Any] | None = None, **kwargs: Any
                 ) -> None:
        self._source = labels
        super().__init__(**kwargs)

    def COCOAPI(self, annotation_file: str) -> Indexed:
        labels = load_labels(LabelSource.of(
            self._source or LabelSource('coco', self.data_prefix['img'], annotation_file)))
        self.read = labels.counted()
        return Indexed(labels)


class CocoScores(CocoMetric):
    """``CocoMetric`` of the labels that :class:`CocoFolder` reads. It scores a model that predicts
    nothing with AP 0, where the stock one returns no scores at all. COCO's tables go to the log
    file.

    Args:
        labels: as of :class:`CocoFolder`. ann_file, images: a JSON and the folder of its images,
            in their place.
    """

    def __init__(self, *, labels: LabelSource | Mapping[str, Any] | None = None,
                 ann_file: str = '', images: str = '', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._coco_api = Indexed(load_labels(LabelSource.of(
            labels or LabelSource('coco', images, ann_file))))

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
