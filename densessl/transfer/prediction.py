"""What a downstream model found in one image."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

VOID = 255     # in a label map: of no class


@dataclass(frozen=True)
class Instances:
    """Predicted (or true) objects of one image: boxes (n, 4) as left, top, right, bottom in
    pixels, scores (n,), labels (n,) and masks (n, H, W) bool (n = 0 masks if there are none)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray

    def above(self, score: float) -> Instances:
        """Those with at least ``score``."""
        keep = self.scores >= score
        return Instances(self.boxes[keep], self.scores[keep], self.labels[keep],
                         self.masks[keep] if len(self.masks) else self.masks)


@dataclass(frozen=True)
class Prediction:
    """What a model found in one image: a label map (H, W) of class indices and :data:`VOID`,
    objects, or both."""

    labels: np.ndarray | None = None
    instances: Instances | None = None

    @classmethod
    def of(cls, sample: Any) -> Prediction:
        """From a data element as models of mmengine's family return it."""
        labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy() \
            if 'pred_sem_seg' in sample else None
        return cls(labels, _instances(sample.pred_instances) if 'pred_instances' in sample
                   else None)


def _instances(found: Any) -> Instances:
    masks = found.masks if 'masks' in found else np.zeros((0, 1, 1), bool)
    return Instances(_numpy(found.bboxes), _numpy(found.scores), _numpy(found.labels),
                     _numpy(masks).astype(bool))


def _numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if hasattr(values, 'cpu') else np.asarray(values)
