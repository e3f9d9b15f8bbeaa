"""DetCon-B: BYOL's two networks, contrasting regions (arXiv 2103.10957, section 3)."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from densessl.backbones import build_backbone, feature_stage
from densessl.bounds import Share, Temperature, Width
from densessl.ema import copy_weights, cosine_tau, ema_update
from densessl.errors import UsageError
from densessl.heads import mlp, pool_regions
from densessl.method import Method, View
from densessl_plugins.detcon.loss import detcon_chance, detcon_nce
from densessl_plugins.detcon.regions import Regions, draw_regions


class DetConB(Method):
    """DetCon with an online and a target network.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        num_regions: regions drawn per image and view.
        projection: hidden and output width of projector and predictor.
        temperature: τ of the loss.
        tau_base: momentum of the target at the first step; a cosine takes it to 1.
        target_init: ``'fresh'``: online and target start from different random weights
            (released); ``'copy'``: they start equal.
        local_negatives: whether other regions of the same image are negatives (released: yes).
        hard: give each feature cell to one region (released); False: the paper's averaged masks.
        stage: which of the backbone's feature maps; −1 is the last.
    """

    name = 'detcon'
    needs_masks = True
    batch_negatives = True

    def __init__(self, backbone: dict[str, Any], num_regions: Regions = 16,
                 projection: tuple[Width, Width] = (4096, 256), temperature: Temperature = 0.1,
                 tau_base: Share = 0.996, target_init: str = 'fresh',
                 local_negatives: bool = True, hard: bool = True, stage: int = -1) -> None:
        super().__init__()
        if target_init not in ('fresh', 'copy'):
            raise UsageError(f"target_init {target_init!r}: 'fresh' or 'copy'")
        self.backbone = build_backbone(backbone)                             # f_θ
        channels = feature_stage(self.backbone, stage).channels
        hidden, out = projection
        self.projector = mlp(channels, hidden, out)                          # g_θ
        self.predictor = mlp(out, hidden, out)                               # q_θ
        self.target_backbone = build_backbone(backbone).requires_grad_(False)          # f_ξ
        self.target_projector = mlp(channels, hidden, out).requires_grad_(False)       # g_ξ
        self.num_regions, self.temperature = num_regions, temperature
        self.tau_base, self.target_init = tau_base, target_init
        self.local_negatives, self.hard, self.stage = local_negatives, hard, stage

    def init_weights(self) -> None:
        super().init_weights()
        if self.target_init == 'copy':
            copy_weights(self.target_backbone, self.backbone)
            copy_weights(self.target_projector, self.projector)

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        predictions, targets, ids = [], [], []
        for view in views:
            features = self.backbone(view.image)[self.stage]                 # (B, C, h, w)
            drawn, weights = draw_regions(view, features.shape[-2:], self.num_regions,
                                          hard=self.hard)                    # (B, R), (B, R, h·w)
            pooled = pool_regions(features, weights).flatten(0, 1)           # (B·R, C)
            predictions.append(self.predictor(self.projector(pooled)))       # q_θ(g_θ(h_m))
            with torch.no_grad():
                features = self.target_backbone(view.image)[self.stage]
                pooled = pool_regions(features, weights).flatten(0, 1)
                targets.append(self.target_projector(pooled))                # g_ξ(h'_m)
            ids.append(drawn)
        (p1, p2), (z1, z2) = ([x.unflatten(0, ids[0].shape) for x in xs]
                              for xs in (predictions, targets))              # (B, R, D)
        self.show(p1, z2, ids=tuple(ids),
                  trivial=lambda: detcon_chance(*ids, self.local_negatives))
        loss = detcon_nce(p1, p2, z1, z2, *ids, self.temperature, self.local_negatives)
        return {'loss': loss}

    def after_step(self, step: int, max_steps: int) -> None:
        tau = cosine_tau(step, max_steps, self.tau_base)
        ema_update(self.target_backbone, self.backbone, tau)
        ema_update(self.target_projector, self.projector, tau)

    def negatives(self, global_batch: int) -> int:
        return 2 * self.num_regions * global_batch - 2   # all regions but the positive and itself
