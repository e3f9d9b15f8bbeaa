"""Photometry on the CPU: the door to the compiled kernel, which checks what goes through it."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from densessl.views.photometry_cpu_kernel import augment_batch
from densessl.views.photometry_draw import check_rows


def augment_and_normalize(images: Tensor, rows: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Apply photometry to a batch and normalize it, on PyTorch's number of threads.

    Args:
        images: (B, H, W, 3) uint8 on the CPU.
        rows: (B, P) float32 parameters.
        mean, std: 3 numbers each, of channels in [0, 1].

    Returns:
        (B, 3, H, W) float32, channels-last. A view's result depends on the view alone.

    Raises:
        ValueError: arguments of another shape or type, or parameters that mean nothing.
    """
    statistics = [x.detach().float().flatten().numpy() for x in (mean, std)]
    out = torch.empty(images.shape, dtype=torch.float32)   # (B, H, W, 3)
    arrays = *_checked(images, rows, *statistics), out.numpy()
    threads = min(torch.get_num_threads(), len(images))
    if threads <= 1:
        augment_batch(*arrays, *statistics)
    else:
        parts = [np.array_split(array, threads) for array in arrays]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda *part: augment_batch(*part, *statistics), *parts))
    return out.permute(0, 3, 1, 2)


def _checked(images: Tensor, rows: Tensor, mean: np.ndarray, std: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray]:
    """Images and rows as contiguous arrays of what the kernel is compiled for."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != torch.uint8 \
            or 0 in images.shape[1:]:
        raise ValueError(f'views must be (B, H, W, 3) uint8 and not empty, not '
                         f'{tuple(images.shape)} {images.dtype}')
    if len(rows) != len(images) or mean.shape != (3,) or std.shape != (3,):
        raise ValueError(f'{len(images)} views need as many rows of parameters and 3 means and '
                         f'deviations, not {len(rows)}, {mean.shape} and {std.shape}')
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(f'mean {mean} and std {std} must be finite, std above 0')
    parameters = rows.float().contiguous().numpy()
    check_rows(parameters)
    return images.contiguous().numpy(), parameters
