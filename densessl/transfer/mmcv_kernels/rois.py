"""Pooling of features (B, C, H, W) over regions of interest.

``rois`` (R, 5) are batch index, x1, y1, x2, y2 in pixels of the image; ``spatial_scale`` takes them
to cells of the feature map. The pooled output is (R, C, h, w).
"""
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from densessl.transfer.mmcv_kernels import full_precision

MAX, AVERAGE = 0, 1  # mmcv's pool_mode


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, aligned_height: int, aligned_width: int,
                      spatial_scale: float, sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    """RoIAlign (arXiv 1703.06870) into ``output``: average or maximum of the samples of each bin.

    The maximum notes the row and column of its sample within the bin in ``argmax_y`` and
    ``argmax_x``, shaped as the output, for the backward pass.
    """
    features, rois = full_precision(input, rois)
    bins = (aligned_height, aligned_width)
    align = torch.ops.torchvision.roi_align
    if pool_mode == AVERAGE:
        output.copy_(align(features, rois, spatial_scale, *bins, sampling_ratio, aligned))
        return
    for index, grid in _sampling_grids(rois, bins, spatial_scale, sampling_ratio, aligned):
        # The samples of a bin are the centers of its grid: as many bins of one sample each.
        fine = (bins[0] * grid[0], bins[1] * grid[1])
        samples = align(features, rois[index], spatial_scale, *fine, 1, aligned)
        best, which = _split_bins(samples, bins, grid).max(dim=-1)
        output[index] = best.to(output.dtype)
        argmax_y[index] = (which // grid[1]).to(argmax_y.dtype)
        argmax_x[index] = (which % grid[1]).to(argmax_x.dtype)


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_input: Tensor, aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int, pool_mode: int,
                       aligned: bool) -> None:
    """Write the gradient of the features to ``grad_input``."""
    grad, rois = full_precision(grad_output, rois)
    bins, shape = (aligned_height, aligned_width), grad_input.shape
    align_backward = torch.ops.torchvision._roi_align_backward
    if pool_mode == AVERAGE:
        grad_input.copy_(
            align_backward(grad, rois, spatial_scale, *bins, *shape, sampling_ratio, aligned))
        return
    total = grad.new_zeros(shape)
    for index, grid in _sampling_grids(rois, bins, spatial_scale, sampling_ratio, aligned):
        which = argmax_y[index].long() * grid[1] + argmax_x[index].long()  # (r, C, h, w)
        samples = grad.new_zeros(*which.shape, grid[0] * grid[1])
        samples.scatter_(-1, which[..., None], grad[index][..., None])
        samples = _join_bins(samples, grid)
        total += align_backward(
            samples, rois[index], spatial_scale, *samples.shape[2:], *shape, 1, aligned)
    grad_input.copy_(total)


def _sampling_grids(rois: Tensor, bins: tuple[int, int], spatial_scale: float, sampling_ratio: int,
                    aligned: bool) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Indices (r,) of the RoIs whose bins share a grid of samples, and its rows and columns."""
    if sampling_ratio > 0:
        yield torch.arange(len(rois), device=rois.device), (sampling_ratio, sampling_ratio)
        return
    shift = 0.5 if aligned else 0.0  # cancels, but for the rounding that the kernels have too
    size = (rois[:, 3:] * spatial_scale - shift) - (rois[:, 1:3] * spatial_scale - shift)
    if not aligned:
        size = size.clamp(min=1)
    grids = (size.flip(1) / size.new_tensor(bins)).ceil().long()  # (R, 2) rows, columns
    for grid in sorted(set(map(tuple, grids.tolist()))):
        if min(grid) > 0:  # a RoI without area has no samples and pools to zero
            yield (grids == grids.new_tensor(grid)).all(dim=1).nonzero().squeeze(1), grid


def _split_bins(samples: Tensor, bins: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(r, C, h·gh, w·gw) to (r, C, h, w, gh·gw)."""
    samples = samples.unflatten(3, (bins[1], grid[1])).unflatten(2, (bins[0], grid[0]))
    return samples.transpose(3, 4).flatten(4)


def _join_bins(samples: Tensor, grid: tuple[int, int]) -> Tensor:
    """(r, C, h, w, gh·gw) to (r, C, h·gh, w·gw)."""
    return samples.unflatten(4, grid).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def roi_pool_forward(input: Tensor, rois: Tensor, output: Tensor, argmax: Tensor,
                     pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
    """Maximum over the cells of each bin into ``output``, its flat cell y·W + x into ``argmax``.

    An empty bin gives 0 and cell -1. torchvision's roi_pool is another function: it rounds a RoI
    to whole cells first, mmcv only rounds the edges of the bins, outwards.
    """
    features, rois = full_precision(input, rois)
    height, width = features.shape[2:]
    left, right = _bin_edges(rois[:, 1], rois[:, 3] + 1, spatial_scale, pooled_width, width)
    top, bottom = _bin_edges(rois[:, 2], rois[:, 4] + 1, spatial_scale, pooled_height, height)
    batch = rois[:, 0].long()[:, None, None]
    shape = (len(rois), pooled_height, pooled_width, features.shape[1])
    best = features.new_full(shape, -torch.inf)
    cell = argmax.new_full(shape, -1)
    for dy in range(int((bottom - top).max()) if len(rois) else 0):
        for dx in range(int((right - left).max())):
            y, x = (top + dy)[:, :, None], (left + dx)[:, None, :]
            inside = (y < bottom[:, :, None]) & (x < right[:, None, :])  # (R, h, w)
            value = features[batch, :, y.clamp(max=height - 1), x.clamp(max=width - 1)]
            better = inside[..., None] & (value > best)  # (R, h, w, C)
            best = torch.where(better, value, best)
            cell = torch.where(better, (y * width + x)[..., None].to(cell.dtype), cell)
    output.copy_(best.masked_fill(cell < 0, 0).permute(0, 3, 1, 2))
    argmax.copy_(cell.permute(0, 3, 1, 2))


def roi_pool_backward(grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor,
                      pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
    """Write the gradient of the features to ``grad_input``."""
    grad, rois = full_precision(grad_output, rois)
    grad_input.copy_(torch.ops.torchvision._roi_pool_backward(
        grad, rois, argmax, spatial_scale, pooled_height, pooled_width, *grad_input.shape))


def _bin_edges(start: Tensor, end: Tensor, spatial_scale: float, bins: int,
               limit: int) -> tuple[Tensor, Tensor]:
    """First and past-the-last cell (R, bins) of the bins of [start, end) (R,) along one axis."""
    start, end = start[:, None] * spatial_scale, end[:, None] * spatial_scale
    step = (end - start) / bins
    number = torch.arange(bins, device=start.device)
    low = (number * step + start).floor().clamp(0, limit).long()
    high = ((number + 1) * step + start).ceil().clamp(0, limit).long()
    return low, torch.where(step > 0, high, low)
