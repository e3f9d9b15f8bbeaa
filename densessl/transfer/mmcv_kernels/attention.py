"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, Eq. 3), level by level.

value (B, Σ H·W, heads, D), with the (H, W) of every level in ``value_spatial_shapes`` (L, 2);
sampling_locations (B, Q, heads, L, P, 2) as x, y in [0, 1]; attention_weights (B, Q, heads, L, P);
output (B, Q, heads·D). One level at a time keeps the samples, the largest tensor, L times smaller.
"""
from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from densessl.transfer.mmcv_kernels import full_precision


def ms_deform_attn_forward(value: Tensor, value_spatial_shapes: Tensor,
                           value_level_start_index: Tensor, sampling_locations: Tensor,
                           attention_weights: Tensor, im2col_step: int) -> Tensor:
    """The attended values (B, Q, heads·D)."""
    operands = full_precision(value, sampling_locations, attention_weights)
    output = sum(_attend(*level, shape) for level, shape in _levels(operands, value_spatial_shapes))
    return output.to(value.dtype).contiguous()


def ms_deform_attn_backward(value: Tensor, value_spatial_shapes: Tensor,
                            value_level_start_index: Tensor, sampling_locations: Tensor,
                            attention_weights: Tensor, grad_output: Tensor, grad_value: Tensor,
                            grad_sampling_loc: Tensor, grad_attn_weight: Tensor,
                            im2col_step: int) -> None:
    """Write the gradients of value, sampling locations and attention weights."""
    operands = full_precision(value, sampling_locations, attention_weights)
    written = _levels([grad_value, grad_sampling_loc, grad_attn_weight], value_spatial_shapes)
    grad = grad_output.to(operands[0].dtype)
    for (level, shape), (grads, _) in zip(
            _levels(operands, value_spatial_shapes), written, strict=True):
        with torch.enable_grad():
            leaves = [operand.detach().requires_grad_() for operand in level]
            output = _attend(*leaves, shape)
        for target, computed in zip(grads, torch.autograd.grad(output, leaves, grad), strict=True):
            target.copy_(computed)


def _levels(operands: list[Tensor],
            spatial_shapes: Tensor) -> Iterator[tuple[list[Tensor], tuple[int, int]]]:
    """Views of one level of (value, locations, weights), and the level's (H, W)."""
    shapes = [tuple(shape) for shape in spatial_shapes.tolist()]
    values = operands[0].split([height * width for height, width in shapes], dim=1)
    locations, weights = operands[1].unbind(dim=3), operands[2].unbind(dim=3)
    for *level, shape in zip(values, locations, weights, shapes, strict=True):
        yield level, shape


def _attend(value: Tensor, locations: Tensor, weights: Tensor, shape: tuple[int, int]) -> Tensor:
    """value (B, H·W, heads, D), locations (B, Q, heads, P, 2), weights (B, Q, heads, P)."""
    batch, queries, heads, points = weights.shape
    maps = value.permute(0, 2, 3, 1).reshape(batch * heads, value.shape[3], *shape)
    grid = (2 * locations - 1).transpose(1, 2).reshape(batch * heads, queries, points, 2)
    samples = F.grid_sample(maps, grid, align_corners=False)  # (B·heads, D, Q, P), zero outside
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, points)
    attended = (samples * weights).sum(dim=-1)  # (B·heads, D, Q)
    return attended.unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2)
