"""Heads that methods share, and the pooling of features over regions."""
from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(in_features: int, hidden: int, out_features: int, *, hidden_bias: bool = True) -> nn.Module:
    """Linear → BN → ReLU → Linear without bias: BYOL's projector and predictor."""
    return nn.Sequential(nn.Linear(in_features, hidden, bias=hidden_bias), nn.BatchNorm1d(hidden),
                         nn.ReLU(inplace=True), nn.Linear(hidden, out_features, bias=False))


def cell_counts(mask: Tensor, size: tuple[int, int], regions: int) -> Tensor:
    """Count the pixels of each region in each cell of a feature map.

    Scatter-adds ones: the (B, regions, H, W) one-hot of the released code is never made.

    Args:
        mask: (B, H, W) integer label map with ids in [0, regions).
        size: (h, w) of the feature map.

    Returns:
        (B, h·w, regions) int32. A pixel belongs to the cell in which its center falls.
    """
    batch, height, width = mask.shape
    h, w = size
    rows = torch.arange(height, device=mask.device) * h // height     # (H,) cell of each row
    columns = torch.arange(width, device=mask.device) * w // width
    cells = rows[:, None] * w + columns                               # (H, W)
    index = (cells * regions + mask.long()).flatten(1)                # (B, H·W)
    counts = torch.zeros(batch, h * w * regions, dtype=torch.int32, device=mask.device)
    counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))
    return counts.view(batch, h * w, regions)


def sample_regions(present: Tensor, uniforms: Tensor) -> Tensor:
    """Draw region ids with replacement, uniformly over the ids that are present.

    Args:
        present: (B, regions) bool, at least one per sample.
        uniforms: (B, R) in [0, 1): the samples' own random numbers.

    Returns:
        (B, R) int64 ids.
    """
    rank = present.cumsum(1)                                          # 1-based rank of each id
    number = rank[:, -1:]
    drawn = (uniforms * number).long().clamp(max=number - 1) + 1      # (B, R) in 1..number
    return torch.searchsorted(rank, drawn)


def region_weights(counts: Tensor, ids: Tensor, *, hard: bool) -> Tensor:
    """How much each feature cell belongs to each drawn region.

    Args:
        counts: (B, cells, regions) of :func:`cell_counts`; ids: (B, R).
        hard: give each cell wholly to its most frequent region, a tie to the lowest id
            (as released); else by the share of its pixels (the paper's average-pooled masks).

    Returns:
        (B, R, cells) float.
    """
    if hard:
        owner = counts.argmax(2)                                      # (B, cells)
        return (owner[:, None] == ids[:, :, None]).float()
    share = counts / counts.sum(2, keepdim=True).clamp(min=1)         # (B, cells, regions)
    index = ids[:, None].expand(-1, counts.shape[1], -1)              # (B, cells, R)
    return share.gather(2, index).transpose(1, 2)


def pool_regions(features: Tensor, weights: Tensor) -> Tensor:
    """Average features over regions: (B, C, h, w), (B, R, h·w) → (B, R, C)."""
    weights = weights.to(features.dtype)
    area = weights.sum(2, keepdim=True)                               # (B, R, 1)
    # a hard area is a count: max(area, 1) as released guards only empty regions; soft areas may
    # be below one cell and are divided by as they are
    area = torch.where(area > 0, area, torch.ones_like(area))
    return weights @ features.flatten(2).transpose(1, 2) / area
