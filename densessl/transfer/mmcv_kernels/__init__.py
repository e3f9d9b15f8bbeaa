"""The detection ops that mmcv compiles, on torchvision's kernels or in a few lines of PyTorch.

Names, order and keywords of the arguments are those by which ``mmcv/ops/*.py`` calls its compiled
extension (declared in ``mmcv/ops/csrc/pytorch/pybind.cpp``); results go into the tensors passed in.
What is computed follows mmcv's own kernels (``csrc/pytorch/cpu`` and ``csrc/common/cuda``).
"""
from __future__ import annotations

from functools import reduce

import torch
import torchvision  # noqa: F401  (loads torch.ops.torchvision)
from torch import Tensor


def full_precision(*tensors: Tensor) -> list[Tensor]:
    """The tensors in their common dtype, at least float32.

    Every op computes so and rounds once, when it writes: not every torchvision kernel takes half
    precision, and half precision cannot hold the coordinates of a large image.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return [tensor.to(dtype) for tensor in tensors]
