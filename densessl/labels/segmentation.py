"""Scores of label maps: one confusion matrix over all pixels of all images."""
from __future__ import annotations

import torch
from torch import Tensor

from densessl.labels.label_ids import IGNORED


class Confusion:
    """Counts pixels by (true class, predicted class)."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.by_image: list[Tensor] = []    # (3, classes): pixels right, of it, given it

    def add(self, predicted: Tensor, true: Tensor) -> None:
        """Count label maps of the same shape; pixels whose true class is 255 are left out."""
        known = true != IGNORED
        pairs = true[known].long() * self.classes + predicted[known].long()
        counts = torch.bincount(pairs, minlength=self.classes ** 2).view(
            self.classes, self.classes).cpu()
        self.counts += counts
        self.by_image.append(torch.stack([counts.diag(), counts.sum(1), counts.sum(0)]))

    def iou(self) -> Tensor:
        """(classes,) intersection over union; NaN for classes neither present nor predicted."""
        both = self.counts.diag().double()
        return both / (self.counts.sum(0) + self.counts.sum(1) - both)

    def scores(self) -> dict[str, float]:
        """mIoU, mAcc and aAcc in percent; classes that do not occur are left out of the means."""
        both, true = self.counts.diag().double(), self.counts.sum(1)
        return {'mIoU': 100 * float(self.iou().nanmean()),
                'mAcc': 100 * float((both / true).nanmean()),
                'aAcc': 100 * float(both.sum() / true.sum())}
