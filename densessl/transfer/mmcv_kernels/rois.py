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


def deform_roi_pool_forward(input: Tensor, rois: Tensor, offset: Tensor, output: Tensor,
                            pooled_height: int, pooled_width: int, spatial_scale: float,
                            sampling_ratio: int, gamma: float) -> None:
    """Deformable RoI pooling (arXiv 1703.06211, Eq. 5) into ``output``: RoIAlign, each bin moved.

    ``offset`` (R, 2, h, w) holds x, y of each bin in shares ``gamma`` of the RoI's size; none if
    empty.
    """
    features, rois, offset = full_precision(input, rois, offset)
    cells, shape = features.permute(0, 2, 3, 1).flatten(0, 2), features.shape  # (B·H·W, C)
    bins = (pooled_height, pooled_width)
    for index, grid in _sampling_grids(rois, bins, spatial_scale, sampling_ratio, aligned=True):
        moved = offset[index] if offset.numel() else None
        total = torch.zeros((), dtype=features.dtype, device=features.device)
        for y, x in _moved_samples(rois[index], moved, bins, spatial_scale, grid, gamma):
            corners, weights, _ = _bilinear(rois[index, 0], y, x, shape)
            total = total + sum(weight[..., None] * cells[corner]
                                for corner, weight in zip(corners, weights, strict=True))
        output[index] = (total / (grid[0] * grid[1])).permute(0, 3, 1, 2).to(output.dtype)


def deform_roi_pool_backward(grad_output: Tensor, input: Tensor, rois: Tensor, offset: Tensor,
                             grad_input: Tensor, grad_offset: Tensor, pooled_height: int,
                             pooled_width: int, spatial_scale: float, sampling_ratio: int,
                             gamma: float) -> None:
    """Write the gradients of the features and, where there is one, of the offset."""
    grad, features, rois, offset = full_precision(grad_output, input, rois, offset)
    cells, shape = features.permute(0, 2, 3, 1).flatten(0, 2), features.shape
    bins, total = (pooled_height, pooled_width), torch.zeros_like(cells)
    for index, grid in _sampling_grids(rois, bins, spatial_scale, sampling_ratio, aligned=True):
        moved = offset[index] if offset.numel() else None
        share = grad[index].permute(0, 2, 3, 1) / (grid[0] * grid[1])  # (r, h, w, C)
        size = gamma * spatial_scale * (rois[index, 3:] - rois[index, 1:3])  # (r, 2) x, y
        for y, x in _moved_samples(rois[index], moved, bins, spatial_scale, grid, gamma):
            corners, weights, slopes = _bilinear(rois[index, 0], y, x, shape)
            for corner, weight in zip(corners, weights, strict=True):
                total.index_add_(0, corner.flatten(), (weight[..., None] * share).flatten(0, 2))
            if moved is not None:
                value = torch.stack([(cells[corner] * share).sum(dim=-1) for corner in corners])
                grad_offset[index] += (size[:, :, None, None] * (value[:, None] * slopes).sum(
                    dim=0).transpose(0, 1)).to(grad_offset.dtype)
    grad_input.copy_(total.unflatten(0, (shape[0], *shape[2:])).permute(0, 3, 1, 2))


def _moved_samples(rois: Tensor, offset: Tensor | None, bins: tuple[int, int],
                   spatial_scale: float, grid: tuple[int, int], gamma: float
                   ) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and columns (r, h, w) of each of the grid's samples of every bin."""
    low, high = (rois[:, corner, None, None] * spatial_scale - 0.5
                 for corner in ([1, 2], [3, 4]))  # (r, 2, 1, 1) x, y
    size = high - low
    start = low if offset is None else low + gamma * size * offset
    number = [torch.arange(count, device=rois.device) for count in bins]
    step_y, step_x = size[:, 1] / bins[0], size[:, 0] / bins[1]
    rows = start[:, 1] + number[0][:, None] * step_y
    columns = start[:, 0] + number[1] * step_x
    shape = (len(rois), *bins)
    for i in range(grid[0]):
        for j in range(grid[1]):
            yield ((rows + (i + 0.5) * step_y / grid[0]).expand(shape),
                   (columns + (j + 0.5) * step_x / grid[1]).expand(shape))


def _bilinear(batch: Tensor, y: Tensor, x: Tensor, shape: torch.Size
              ) -> tuple[list[Tensor], Tensor, Tensor]:
    """The four cells around points (r, h, w) of images ``batch`` (r,), by their place among all
    B·H·W; their weights (4, r, h, w); and the slopes (4, 2, r, h, w) of those along x and y.

    A point more than a cell outside has no weight. One nearer is moved to the border for the value
    but not for the slopes, as in mmcv.
    """
    height, width = shape[2:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    top, left = y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, aside = y.clamp(0, height - 1) - top, x.clamp(0, width - 1) - left
    weights = torch.stack([(1 - down) * (1 - aside), (1 - down) * aside,
                           down * (1 - aside), down * aside]) * inside
    along_x = torch.stack([y - bottom, bottom - y, top - y, y - top])
    along_y = torch.stack([x - right, left - x, right - x, x - left])
    first = batch.long()[:, None, None] * (height * width)
    corners = [first + row * width + column for row in (top, bottom) for column in (left, right)]
    return corners, weights, torch.stack([along_x, along_y], dim=1) * inside
