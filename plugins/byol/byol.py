"""BYOL (arXiv 2006.07733): online network θ, target network ξ."""
from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from densessl.backbones import build_backbone, feature_stages
from densessl.bounds import Share, Width
from densessl.ema import copy_weights, cosine_tau, ema_update
from densessl.errors import UsageError
from densessl.heads import mlp
from densessl.method import Method, View
from densessl.precision import full_precision


class BYOL(Method):
    """BYOL.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        projection: hidden and output width of projector and predictor.
        tau_base: momentum of the target at the first step; a cosine takes it to 1.
        target_init: ``'fresh'``: online and target start from different random weights
            (released); ``'copy'``: they start equal.
    """

    name = 'byol'

    def __init__(self, backbone: dict[str, Any], projection: tuple[Width, Width] = (4096, 256),
                 tau_base: Share = 0.996, target_init: Literal['fresh', 'copy'] = 'fresh') -> None:
        super().__init__()
        if target_init not in ('fresh', 'copy'):
            raise UsageError(f"target_init {target_init!r}: 'fresh' or 'copy'")
        hidden, out = projection
        self.backbone = build_backbone(backbone)                             # f_θ
        channels = feature_stages(self.backbone)[-1].channels
        self.projector = mlp(channels, hidden, out)                          # g_θ
        self.predictor = mlp(out, hidden, out)                               # q_θ
        self.target_backbone = build_backbone(backbone).requires_grad_(False)          # f_ξ
        self.target_projector = mlp(channels, hidden, out).requires_grad_(False)       # g_ξ
        self.tau_base, self.target_init = tau_base, target_init

    def init_weights(self) -> None:
        super().init_weights()
        if self.target_init == 'copy':
            copy_weights(self.target_backbone, self.backbone)
            copy_weights(self.target_projector, self.projector)

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        predictions, targets = [], []
        for view in views:
            y = self.backbone(view.image)[-1].mean((2, 3))                   # (B, C)
            predictions.append(self.predictor(self.projector(y)))            # q_θ(z_θ)
            with torch.no_grad():
                y = self.target_backbone(view.image)[-1].mean((2, 3))
                targets.append(self.target_projector(y))                     # z'_ξ
        (p1, p2), (z1, z2) = predictions, targets
        self.show(p1, z2)
        return {'loss': cosine_regression(p1, z2) + cosine_regression(p2, z1)}   # both orders

    def after_step(self, step: int, max_steps: int) -> None:
        tau = cosine_tau(step, max_steps, self.tau_base)
        ema_update(self.target_backbone, self.backbone, tau)
        ema_update(self.target_projector, self.projector, tau)

    def negatives(self, global_batch: int) -> int:
        return 0


@full_precision
def cosine_regression(prediction: Tensor, target: Tensor) -> Tensor:
    """‖p/‖p‖ − z/‖z‖‖² = 2 − 2·cos(p, z) (Eq. 2).

    Args:
        prediction, target: (B, D).

    Returns:
        Scalar, the mean over B.
    """
    return (2 - 2 * F.cosine_similarity(prediction, target, dim=1)).mean()
