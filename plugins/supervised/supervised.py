"""Supervised classification with a linear layer on the pooled features."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stages
from densessl.bounds import Classes, Share
from densessl.method import Method, View


class Supervised(Method):
    """Classification.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        num_classes: number of classes; found in the data when training.
        label_smoothing: share of the target spread over all classes.
    """

    name = 'supervised'
    views = 1
    needs_labels = True

    def __init__(self, backbone: dict[str, Any], num_classes: Classes = 1000,
                 label_smoothing: Share = 0.0) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.classifier = nn.Linear(feature_stages(self.backbone)[-1].channels, num_classes)
        self.label_smoothing = label_smoothing

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        view, = views
        logits = self.classifier(self.backbone(view.image)[-1].mean((2, 3)))     # (B, classes)
        with torch.no_grad():
            accuracy = (logits.argmax(1) == view.target).float().mean()
        return {'loss': F.cross_entropy(logits.float(), view.target,
                                        label_smoothing=self.label_smoothing),
                'accuracy': accuracy}
