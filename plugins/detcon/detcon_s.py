"""DetCon-S: SimCLR's one network, contrasting regions (arXiv 2103.10957, section 3)."""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stage
from densessl.bounds import Temperature, Width
from densessl.heads import pool_regions
from densessl.method import Method, View
from densessl_plugins.detcon.loss import detcon_chance, detcon_nce
from densessl_plugins.detcon.regions import Regions, draw_regions


class DetConS(Method):
    """DetCon with one network: projections are both predictions and targets, and take gradients
    as both. No code was released for it; the loss is DetCon-B's.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        num_regions: regions drawn per image and view.
        hidden: hidden width of SimCLR's head; the feature map's channels if None.
        projection: width of the projections.
        temperature: τ of the loss.
        local_negatives: whether other regions of the same image are negatives.
        hard: give each feature cell to one region (released), or the paper's averaged masks.
        stage: which of the backbone's feature maps; −1 is the last.
    """

    name = 'detcon_s'
    needs_masks = True
    batch_negatives = True

    def __init__(self, backbone: dict[str, Any], num_regions: Regions = 16,
                 hidden: Width | None = None, projection: Width = 128,
                 temperature: Temperature = 0.1, local_negatives: bool = True, hard: bool = True,
                 stage: int = -1) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)                             # f
        channels = feature_stage(self.backbone, stage).channels
        hidden = hidden or channels
        self.projector = nn.Sequential(                                      # g
            nn.Linear(channels, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True),
            nn.Linear(hidden, projection, bias=False), nn.BatchNorm1d(projection))
        self.projector[-1].bias.requires_grad_(False)                        # scale, no shift
        self.num_regions, self.temperature = num_regions, temperature
        self.local_negatives, self.hard, self.stage = local_negatives, hard, stage

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        projections, ids = [], []
        for view in views:
            features = self.backbone(view.image)[self.stage]                 # (B, C, h, w)
            drawn, weights = draw_regions(view, features.shape[-2:], self.num_regions,
                                          hard=self.hard)
            pooled = pool_regions(features, weights).flatten(0, 1)           # (B·R, C)
            projections.append(self.projector(pooled).unflatten(0, drawn.shape))
            ids.append(drawn)
        z1, z2 = projections                                                 # (B, R, D)
        self.show(z1, z2, ids=tuple(ids),
                  trivial=lambda: detcon_chance(*ids, self.local_negatives))
        return {'loss': detcon_nce(z1, z2, z1, z2, *ids, self.temperature, self.local_negatives)}

    def negatives(self, global_batch: int) -> int:
        return 2 * self.num_regions * global_batch - 2
