"""Ops whose weights are of each pixel's own neighborhood: CARAFE's upsampling and PSANet's masks.

CARAFE (arXiv 1905.02188, Eq. 2): features (B, C, H, W); masks (B, G·k·k, s·H, s·W) with a kernel of
k × k for each fine pixel and each of G groups of channels; output (B, C, s·H, s·W).

PSA (ECCV 2018, Zhao et al.): input (B, kh·kw, H, W) says for each pixel how much it has to do with
those around it; output (B, H·W, H, W), for each pixel with every other one, zero out of reach.
"""
from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from densessl.transfer.mmcv_kernels import full_precision

COLLECT = 0  # mmcv's psa_type; 1 distributes


def carafe_forward(features: Tensor, masks: Tensor, rfeatures: Tensor, routput: Tensor,
                   rmasks: Tensor, output: Tensor, kernel_size: int, group_size: int,
                   scale_factor: int) -> None:
    """Each fine pixel as the weighted sum of the k × k cells around its own, into ``output``.

    mmcv's ``rfeatures``, which alone reaches the backward pass, holds the features as they are;
    its ``routput`` and ``rmasks`` are not used.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_naive_forward(features: Tensor, masks: Tensor, output: Tensor, kernel_size: int,
                         group_size: int, scale_factor: int) -> None:
    """The same function with fewer buffers."""
    features, masks = full_precision(features, masks)
    shifted = _shifts(features, kernel_size, group_size)
    weights = _fine(masks, group_size, scale_factor).split(1, dim=2)   # (B, G, 1, H, s, W, s) each
    total = sum(window[:, :, :, :, None, :, None] * weight
                for window, weight in zip(shifted, weights, strict=True))
    output.copy_(total.reshape(output.shape))


def carafe_backward(top_grad: Tensor, rfeatures: Tensor, masks: Tensor, rtop_grad: Tensor,
                    rbottom_grad_hs: Tensor, rbottom_grad: Tensor, rmask_grad: Tensor,
                    bottom_grad: Tensor, mask_grad: Tensor, kernel_size: int, group_size: int,
                    scale_factor: int) -> None:
    """Write the gradients of features and masks to ``bottom_grad`` and ``mask_grad``."""
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size,
                          group_size, scale_factor)


def carafe_naive_backward(top_grad: Tensor, features: Tensor, masks: Tensor, bottom_grad: Tensor,
                          mask_grad: Tensor, kernel_size: int, group_size: int,
                          scale_factor: int) -> None:
    """The same function with fewer buffers."""
    grad, features, masks = full_precision(top_grad, features, masks)
    grad = _fine(grad, group_size, scale_factor)  # (B, G, C/G, H, s, W, s)
    padded = F.pad(torch.zeros_like(features), [kernel_size // 2] * 4)
    weight_grads = []
    weights = _fine(masks, group_size, scale_factor).split(1, dim=2)   # (B, G, 1, H, s, W, s) each
    for window, weight, target in zip(
            _shifts(features, kernel_size, group_size), weights,
            _windows(padded, kernel_size, features.shape[2:]), strict=True):
        target += (grad * weight).sum(dim=(4, 6)).flatten(1, 2)
        weight_grads.append((grad * window[:, :, :, :, None, :, None]).sum(dim=2))
    bottom_grad.copy_(F.pad(padded, [-(kernel_size // 2)] * 4))
    mask_grad.copy_(torch.stack(weight_grads, dim=2).reshape(mask_grad.shape))


def _shifts(features: Tensor, kernel: int, groups: int) -> Iterator[Tensor]:
    """The features (B, G, C/G, H, W) as each of the k·k kernel cells sees them, zero outside."""
    padded = F.pad(features, [kernel // 2] * 4)
    for window in _windows(padded, kernel, features.shape[2:]):
        yield window.unflatten(1, (groups, -1))


def _windows(padded: Tensor, kernel: int, size: torch.Size) -> Iterator[Tensor]:
    for i in range(kernel):
        for j in range(kernel):
            yield padded[:, :, i:i + size[0], j:j + size[1]]


def _fine(maps: Tensor, groups: int, scale: int) -> Tensor:
    """(B, G·n, s·H, s·W) to (B, G, n, H, s, W, s)."""
    return maps.unflatten(3, (-1, scale)).unflatten(2, (-1, scale)).unflatten(1, (groups, -1))


def psamask_forward(input: Tensor, output: Tensor, psa_type: int, num_: int, h_feature: int,
                    w_feature: int, h_mask: int, w_mask: int, half_h_mask: int,
                    half_w_mask: int) -> None:
    """Lay each pixel's mask over the map around it, into ``output``.

    Collecting, ``output[:, q, p]`` is p's weight for q; distributing, ``output[:, p, q]`` is.
    """
    index, reached = _mask_cells(input.device, (h_feature, w_feature), (h_mask, w_mask),
                                 (half_h_mask, half_w_mask))
    weights = input.flatten(2).gather(1, index.expand(num_, -1, -1)).masked_fill(~reached, 0)
    output.copy_(_oriented(weights, psa_type).reshape(output.shape))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, psa_type: int, num_: int,
                     h_feature: int, w_feature: int, h_mask: int, w_mask: int, half_h_mask: int,
                     half_w_mask: int) -> None:
    """Write the gradient of the masks to ``grad_input``."""
    index, reached = _mask_cells(grad_output.device, (h_feature, w_feature), (h_mask, w_mask),
                                 (half_h_mask, half_w_mask))
    grad = _oriented(grad_output.flatten(2), psa_type).masked_fill(~reached, 0)
    total = grad.new_zeros(num_, h_mask * w_mask, h_feature * w_feature)
    total.scatter_add_(1, index.expand(num_, -1, -1), grad)
    grad_input.copy_(total.reshape(grad_input.shape))


def _oriented(pairs: Tensor, psa_type: int) -> Tensor:
    """Pairs of pixels (B, H·W, H·W), the other pixel first as in collecting."""
    return pairs if psa_type == COLLECT else pairs.transpose(1, 2)


def _mask_cells(device: torch.device, size: tuple[int, int], mask: tuple[int, int],
                half: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """For the pairs (q, p) of H·W pixels: the cell of p's mask that lies on q, and whether one
    does."""
    rows, columns = (torch.arange(length, device=device) for length in size)
    y = (rows[:, None] - rows + half[0])[:, None, :, None]  # (H, 1, H, 1)
    x = (columns[:, None] - columns + half[1])[:, None, :]  # (W, 1, W)
    reached = (y >= 0) & (y < mask[0]) & (x >= 0) & (x < mask[1])
    pairs = (size[0] * size[1],) * 2
    index = (y.clamp(0, mask[0] - 1) * mask[1] + x.clamp(0, mask[1] - 1)).reshape(pairs)
    return index, reached.reshape(pairs)
