"""Which regions of a view are contrasted, and which feature cells are theirs."""
from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from densessl.bounds import Range
from densessl.errors import UsageError
from densessl.heads import cell_counts, region_weights, sample_regions
from densessl.method import View

Regions = Annotated[int, Range(1, 2 ** 12)]
"""How many regions of an image are drawn."""


def draw_regions(view: View, size: tuple[int, int], number: int, *, hard: bool
                 ) -> tuple[Tensor, Tensor]:
    """Draw regions of a view with replacement, uniformly among those that own a feature cell.

    Args:
        size: (h, w) of the feature map.
        number: R, regions an image.
        hard: give each cell to one region (released), or by the share of its pixels (paper).

    Returns:
        ids (B, R), and how much each cell belongs to each of them (B, R, h·w).

    Raises:
        UsageError: more regions than a view has random numbers.
    """
    if number > view.uniforms.shape[1]:
        raise UsageError(f'model.num_regions {number}: a view has {view.uniforms.shape[1]} random '
                         f'numbers to draw them by; set uniforms={number}')
    counts = cell_counts(view.mask, size, view.regions or int(view.mask.max()) + 1)
    if hard:   # ids that survive the pooling
        present = torch.zeros_like(counts[:, 0], dtype=torch.bool)
        present.scatter_(1, counts.argmax(2), True)                       # (B, regions)
    else:
        present = counts.amax(1) > 0
    ids = sample_regions(present, view.uniforms[:, :number])
    return ids, region_weights(counts, ids, hard=hard)
