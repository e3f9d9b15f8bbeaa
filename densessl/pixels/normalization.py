"""The input that a backbone expects: mean, std and channel order, recorded with its weights."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# ImageNet's, of RGB pixels 0 … 255
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def normalize(images: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """(…, 3, H, W) uint8 RGB as pretraining fed it: float32, on the same device.

    Args:
        meta: provenance with ``mean``, ``std`` and ``channel_order``.
    """
    mean, std = (torch.tensor(meta[key], dtype=torch.float32, device=images.device).view(3, 1, 1)
                 for key in ('mean', 'std'))
    ordered = images.flip(-3) if meta['channel_order'] == 'BGR' else images
    return (ordered.float() - mean) / std
