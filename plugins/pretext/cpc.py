"""CPC (arXiv 1807.03748, section 3.3; v2: 1905.09272): rows of patches predict those below."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stage
from densessl.bounds import Range, Temperature, Width
from densessl.dist import gather, rank
from densessl.errors import UsageError
from densessl.method import Method, View
from densessl.precision import full_precision
from densessl_plugins.pretext.patches import PatchGrid, encode_patches

Rows = Annotated[int, Range(1, 2 ** 8)]


class CPC(Method):
    """Contrastive predictive coding over a grid of overlapping patches.

    Batch norm would let patches tell each other which image they are from; v1 has none in the
    encoder, v2 has layer norm: give a backbone without it (``norm='layer'`` for torchvision's
    ResNets). v1 encodes with the third of a ResNet's four stages; here the last is the default, so
    that all of the backbone is trained.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        steps: how many rows below a patch's own are predicted from it; v1: 1 to 5.
        directions: 1: downwards (v1); 4: also upwards and to both sides, each with a context
            network of its own (v2).
        projection: width in which predictions and patches are compared.
        hidden: width of the context network's blocks; blocks: their number.
        scale: factor of the logits.
        stage: which of the backbone's feature maps; −1 is the last.
    """

    name = 'cpc'
    views = 1
    view_class = PatchGrid
    batch_negatives = True

    def __init__(self, backbone: dict[str, Any], steps: Sequence[Rows] = (1, 2, 3, 4, 5),
                 directions: Annotated[int, Range(1, 4)] = 1,
                 projection: Width = 64, hidden: Width = 256,
                 blocks: Annotated[int, Range(0, 256)] = 5, scale: Temperature = 0.1,
                 stage: int = -1) -> None:
        super().__init__()
        if not steps:
            raise UsageError('steps of cpc: at least one row')
        self.backbone = build_backbone(backbone)                           # g_enc
        channels = feature_stage(self.backbone, stage).channels
        self.predictors = nn.ModuleList(
            RowPredictor(channels, tuple(steps), projection, hidden, blocks)
            for _ in range(directions))
        self.scale, self.stage = scale, stage

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        view, = views
        z = as_grid(encode_patches(self.backbone, view.image, self.stage))  # (B, C, n, n)
        losses, hits = [], []
        for turn, predictor in enumerate(self.predictors):                 # down, then the others
            for predicted, target, index in predictor(z.rot90(turn, (2, 3))):
                logits = compare(predicted, target, self.scale)            # (M, N)
                losses.append(F.cross_entropy(logits, index))
                hits.append((logits.detach().argmax(1) == index).float().mean())
        return {'loss': torch.stack(losses).mean(), 'accuracy': torch.stack(hits).mean()}

    def negatives(self, global_batch: int) -> int | None:
        return None    # all other patches of the batch: known with the grid, which views bring


class RowPredictor(nn.Module):
    """One direction: the context of each patch, and what it says of the rows below.

    Args:
        channels: of the patches' features. Others as for :class:`CPC`.
    """

    def __init__(self, channels: int, steps: tuple[int, ...], projection: int, hidden: int,
                 blocks: int) -> None:
        super().__init__()
        self.steps = steps
        self.context = nn.Sequential(*(MaskedBlock(channels, hidden) for _ in range(blocks)))
        self.target = nn.Conv2d(channels, projection, 1)
        self.maps = nn.ModuleList(nn.Conv2d(channels, projection, 1) for _ in steps)   # W_k

    def forward(self, z: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Args: z (B, C, n, n). Returns for each step: predictions (M, D), all patches (N, D) of
        all processes, and which of them each prediction is of (M,)."""
        rows = z.shape[2]
        if max(self.steps) >= rows:
            raise UsageError(f'steps {self.steps} of cpc: the grid has {rows} rows, so at most '
                             f'{rows - 1} can be predicted')
        context = F.relu(self.context(z))                                  # c, (B, C, n, n)
        codes = self.target(z).permute(0, 2, 3, 1)                           # (B, n, n, D)
        candidates = gather(codes.flatten(0, 2))                             # (N, D)
        first = rank() * codes[..., 0].numel()
        places = first + torch.arange(codes[..., 0].numel(), device=z.device).view(codes.shape[:3])
        return [(predict(context[:, :, :-k]).permute(0, 2, 3, 1).flatten(0, 2), candidates,
                 places[:, k:].flatten()) for k, predict in zip(self.steps, self.maps, strict=True)]


class MaskedBlock(nn.Module):
    """A residual block that looks at its own row and the one above, at no row below (1905.09272,
    appendix, ``pixelCNN``): 1×1 → ReLU → 1×3 → 2×1 over the row above → ReLU → 1×1."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.across = nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(hidden, hidden, (2, 1))
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.across(F.relu(self.reduce(x)))
        h = F.relu(self.down(F.pad(h, (0, 0, 1, 0))))                      # one row of zeros on top
        return x + self.expand(h)


def as_grid(features: Tensor) -> Tensor:
    """(B, n·n, C) patches row by row → (B, C, n, n)."""
    side = math.isqrt(features.shape[1])
    if side * side != features.shape[1]:
        raise UsageError(f'{features.shape[1]} patches do not form a square grid')
    return features.transpose(1, 2).unflatten(2, (side, side))


@full_precision
def compare(predicted: Tensor, candidates: Tensor, scale: float) -> Tensor:
    """Logits of InfoNCE (Eq. 3, 4): log f_k = scale · ẑᵀz for each prediction and candidate,
    (M, D), (N, D) → (M, N)."""
    return scale * predicted @ candidates.T
