"""Samples become a batch: one allocation, and one handle from a loader worker to the training.

PyTorch's queue between processes sends the memory of each tensor as a file descriptor of its own,
which costs the receiver an eighth of a millisecond, and a batch of two views with masks has eight
tensors. Parts of one memory are sent as one.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

ALIGNMENT = 64      # bytes: a cache line, and a multiple of every element's size


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples: a list over views of (B, …) tensors for each key, all in one memory (in a
    loader worker, the memory that the training process reads).

    ``mask`` is uint8 if all ids of the batch's masks are stored so, else int32. ``regions`` is one
    more than the largest region id of the batch, known here without asking the device."""
    columns = [(key, [np.asarray(array) for array in view]) for key in samples[0]
               for view in zip(*(sample[key] for sample in samples), strict=True)]
    dtypes = [_dtype(arrays) for _, arrays in columns]
    sizes = [len(arrays) * arrays[0].size * dtype.itemsize
             for (_, arrays), dtype in zip(columns, dtypes, strict=True)]
    *starts, end = np.cumsum([0, *(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)]).tolist()
    memory = _allocate(end)
    batch: dict[str, Any] = {key: [] for key in samples[0]}
    for (key, arrays), dtype, start in zip(columns, dtypes, starts, strict=True):
        batch[key].append(_stacked(arrays, dtype, memory[start:]))
    if 'mask' in batch:
        batch['regions'] = 1 + max(int(mask.max()) for mask in batch['mask'])
    return batch


def _dtype(arrays: Sequence[np.ndarray]) -> np.dtype:
    """What holds the elements of all, int32 in place of uint16, which PyTorch can hardly use."""
    dtype = np.result_type(*{array.dtype for array in arrays})
    return np.dtype(np.int32) if dtype == np.uint16 else dtype


def _allocate(size: int) -> Tensor:
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    return torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))


def _stacked(arrays: Sequence[np.ndarray], dtype: np.dtype, memory: Tensor) -> Tensor:
    """(B, …) at the beginning of ``memory``."""
    shape = len(arrays), *arrays[0].shape
    tensor = memory[:prod(shape) * dtype.itemsize].view(
        torch.from_numpy(np.empty(0, dtype)).dtype).view(shape)
    np.stack(arrays, out=tensor.numpy(), casting='unsafe')
    return tensor
