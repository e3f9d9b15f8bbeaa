"""Rotation (arXiv 1803.07728): by which of 0°, 90°, 180°, 270° was the image turned?"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stages
from densessl.method import Method, View
from densessl_plugins.pretext.classification import class_loss

TURNS = 4   # K, section 3: 2 rotations are too few to learn much, 8 add what resampling betrays


class Rotation(Method):
    """Prediction of the rotation, F(X^y) with y = 0 … 3.

    All four rotations of an image are in the same batch (section 3.1, "Implementation details"),
    so a step encodes four times as many images as it reads.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
    """

    name = 'rotation'
    views = 1

    def __init__(self, backbone: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.classifier = nn.Linear(feature_stages(self.backbone)[-1].channels, TURNS)

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        view, = views
        images, turns = all_rotations(view.image)                          # (4·B, 3, H, W), (4·B,)
        return class_loss(self.classifier(self.backbone(images)[-1].mean((2, 3))), turns)


def all_rotations(image: Tensor) -> tuple[Tensor, Tensor]:
    """Turn each image by all multiples of 90°: transposing and flipping, without resampling that
    could betray the angle.

    Args:
        image: (B, 3, S, S).

    Returns:
        (4·B, 3, S, S), all of one angle together, and the number of quarter turns
        counterclockwise (4·B,).
    """
    rotated = torch.cat([image.rot90(turn, (2, 3)) for turn in range(TURNS)])
    turns = torch.arange(TURNS, device=image.device).repeat_interleave(len(image))
    return rotated.contiguous(memory_format=torch.channels_last), turns
