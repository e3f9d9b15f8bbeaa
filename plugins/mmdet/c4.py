"""The RoI head of the C4 detectors that compare pretrained weights: res5, and a BN after it.

He et al. 2020, Momentum Contrast, section 4.2 (https://arxiv.org/abs/1911.05722).
"""
from __future__ import annotations

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import Tensor


class NormedResLayer(ResLayer):
    """A stage of a ResNet, applied to each region, whose output is normalized: with weights that
    are trained with BN everywhere, the box predictor would otherwise meet unnormalized features.

    Args:
        depth, norm_cfg, kwargs: as of ``ResLayer``; ``norm_cfg`` is also that of the BN after it.
    """

    def __init__(self, depth: int, norm_cfg: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(depth, norm_cfg=norm_cfg, **kwargs)
        last = getattr(self, f'layer{self.stage + 1}')[-1]
        channels = (last.conv3 if depth >= 50 else last.conv2).out_channels
        self.norm = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, regions: Tensor) -> Tensor:
        """(N, C, H, W) pooled features of the previous stage → (N, C', H', W')."""
        return self.norm(super().forward(regions))


def register() -> None:
    """Make it known to configs; may be repeated."""
    MODELS.register_module(module=NormedResLayer, force=True)
