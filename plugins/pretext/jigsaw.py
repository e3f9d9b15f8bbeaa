"""Jigsaw (arXiv 1603.09246): by which permutation were the tiles shuffled?"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stages
from densessl.bounds import Classes, Width
from densessl.method import Method, View
from densessl_plugins.pretext.classification import class_loss
from densessl_plugins.pretext.patches import PatchGrid, encode_patches, standardize
from densessl_plugins.pretext.permutations import permutation_set

TILES = 9


class Jigsaw(Method):
    """The context-free network: each tile is encoded alone, their codes are concatenated.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        permutations: size of the permutation set, the number of classes.
        code: width of a tile's code.
        standardize: give each tile mean 0 and deviation 1 before it is encoded.
    """

    name = 'jigsaw'
    views = 1
    view_class = PatchGrid

    def __init__(self, backbone: dict[str, Any], permutations: Classes = 2000,
                 code: Width = 1000, standardize: bool = True) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        channels = feature_stages(self.backbone)[-1].channels
        self.projector = nn.Sequential(nn.Linear(channels, code), nn.BatchNorm1d(code),
                                       nn.ReLU(inplace=True))
        self.classifier = nn.Linear(TILES * code, permutations)
        self.register_buffer('permutations',                                # (P, 9)
                             torch.from_numpy(permutation_set(TILES, permutations)))
        self.standardize = standardize

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        view, = views
        tiles = standardize(view.image) if self.standardize else view.image
        features = encode_patches(self.backbone, tiles)                    # (B, 9, C)
        codes = self.projector(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        puzzle = self.draw(view.uniforms[:, 0])                            # (B,)
        # a tile's code does not depend on its place: codes are shuffled instead of pixels
        shuffled = shuffle(codes, self.permutations[puzzle])
        return class_loss(self.classifier(shuffled.flatten(1)), puzzle)

    def draw(self, uniforms: Tensor) -> Tensor:
        """The samples' permutations (B,) from their own random numbers (B,) in [0, 1)."""
        number = len(self.permutations)
        return (uniforms * number).long().clamp(max=number - 1)


def shuffle(tiles: Tensor, order: Tensor) -> Tensor:
    """Put tile ``order[b, i]`` of image b in place i.

    Args:
        tiles: (B, T, …); order: (B, T) permutations.
    """
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], order]
