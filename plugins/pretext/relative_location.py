"""Relative location (arXiv 1505.05192): where does a patch lie from the one in the middle?"""
from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stages
from densessl.bounds import Range, Width
from densessl.method import Method, View
from densessl_plugins.pretext.classification import class_loss
from densessl_plugins.pretext.patches import PatchGrid, encode_patches, standardize

# The patches around the middle one of 3 × 3, row by row; their index here is their class.
NEIGHBORS = (0, 1, 2, 3, 5, 6, 7, 8)
MIDDLE = 4


class RelativeLocation(Method):
    """Eight pairs an image: the middle patch with each of its neighbors.

    The middle patch is encoded once for its eight pairs (google/revisiting-self-supervised does so;
    mmselfsup encodes it eight times).

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        hidden: width of the hidden layer.
        dropout: probability of dropping a hidden unit.
        standardize: give each patch mean 0 and deviation 1 before it is encoded.
    """

    name = 'relative_location'
    views = 1
    view_class = PatchGrid

    def __init__(self, backbone: dict[str, Any], hidden: Width = 4096,
                 dropout: Annotated[float, Range(0, below=1)] = 0.5, standardize: bool = True
                 ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        channels = feature_stages(self.backbone)[-1].channels
        self.classifier = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(hidden, len(NEIGHBORS)))
        self.standardize = standardize

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        view, = views
        patches = standardize(view.image) if self.standardize else view.image
        pairs, places = all_pairs(encode_patches(self.backbone, patches))  # (8·B, 2·C), (8·B,)
        return class_loss(self.classifier(pairs), places)


def all_pairs(features: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate the middle patch's features with each neighbor's.

    Args:
        features: (B, 9, C), row by row.

    Returns:
        (B·8, 2·C), and each neighbor's class (B·8,): its index in :data:`NEIGHBORS`.
    """
    # by slices: a list of indices would go to the device first, which is waited for
    before, middle, after = features.split([MIDDLE, 1, len(NEIGHBORS) - MIDDLE], 1)
    neighbors = torch.cat([before, after], 1)                              # (B, 8, C)
    middle = middle.expand_as(neighbors)
    places = torch.arange(len(NEIGHBORS), device=features.device).repeat(len(features))
    return torch.cat([middle, neighbors], 2).flatten(0, 1), places
