"""SimCLR (arXiv 2002.05709): encoder f, projection head g, NT-Xent."""
from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stages
from densessl.bounds import Range, Temperature, Width
from densessl.dist import gather, rank, world_size
from densessl.errors import UsageError
from densessl.method import Method, View
from densessl.precision import full_precision


class SimCLR(Method):
    """SimCLR.

    Args:
        backbone: ``dict(type='TARGET.name', …)``; the released recipe starts the last γ of each
            residual block at 0 (``zero_init_residual=True``).
        hidden: width of the head's hidden layers; the backbone's channels if None (released).
        projection: width of z.
        layers: linear layers of the head: 2 (v1), 3 (v2).
        temperature: τ.
    """

    name = 'simclr'
    batch_negatives = True

    def __init__(self, backbone: dict[str, Any], hidden: Width | None = None,
                 projection: Width = 128, layers: Annotated[int, Range(1, 16)] = 2,
                 temperature: Temperature = 0.1) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)                          # f
        channels = feature_stages(self.backbone)[-1].channels
        self.projector = projection_head(channels, hidden or channels, projection, layers)  # g
        self.temperature = temperature

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        sizes = [tuple(view.image.shape[2:]) for view in views]
        if sizes[0] != sizes[1]:
            raise UsageError(f'simclr encodes both views in one pass, so they must have one size, '
                             f'not {sizes[0]} and {sizes[1]}; set the same size in both views')
        # one pass, as released: batch norms see both views together
        images = torch.cat([view.image for view in views])                # (2B, 3, H, W)
        z1, z2 = self.projector(self.backbone(images)[-1].mean((2, 3))).chunk(2)   # (B, D) each
        self.show(z1, z2, trivial=lambda: 2 * math.log(2 * len(z1) * world_size() - 1))
        # the release sums what Eq. 1 averages; batch norms, which LARS does not adapt, feel it
        return {'loss': 2 * nt_xent(z1, z2, self.temperature)}

    def negatives(self, global_batch: int) -> int:
        return 2 * global_batch - 2


def projection_head(channels: int, hidden: int, out: int, layers: int = 2) -> nn.Sequential:
    """Linear → BN → ReLU, …, Linear → BN, the linears without bias, the last BN with a scale but
    no shift (google-research/simclr ``model_util.py``)."""
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(channels, hidden, bias=False), nn.BatchNorm1d(hidden),
                    nn.ReLU(inplace=True)]
        channels = hidden
    last = nn.BatchNorm1d(out)
    last.bias.requires_grad_(False)   # stays 0
    return nn.Sequential(*modules, nn.Linear(channels, out, bias=False), last)


@full_precision
def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The normalized temperature-scaled cross-entropy (Eq. 1, Algorithm 1).

    Each of the 2B views has its partner as the positive among 2B − 1 candidates: all views but
    itself. With several processes the candidates are those of all of them.

    Args:
        z1, z2: (B, D) projections of the two views, normalized here.
        temperature: τ.

    Returns:
        Scalar: the mean over this process's 2B views. (The released code sums the two orders'
        means, which is twice this.)
    """
    z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    all_z1, all_z2 = gather(z1), gather(z2)                               # (N, D)
    places = rank() * len(z1) + torch.arange(len(z1), device=z1.device)   # where ours are among N
    losses = []
    for z, same, other in ((z1, all_z1, all_z2), (z2, all_z2, all_z1)):
        logits_ab = (z @ other.T) / temperature                   # (B, N)
        logits_aa = (z @ same.T) / temperature
        itself = F.one_hot(places, len(same)).bool()
        logits_aa = logits_aa.masked_fill(itself, float('-inf'))
        losses.append(F.cross_entropy(torch.cat([logits_ab, logits_aa], 1), places))
    return (losses[0] + losses[1]) / 2
