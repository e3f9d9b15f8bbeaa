"""A method where it is trained: on the device, in the memory format and with the batch norms and
the recomputing that its config asks for."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device

from densessl.dist import synchronize_batch_norm, world_size
from densessl.method import Method
from densessl.training.recomputing import recompute_blocks


def placed(method: Method, cfg: Mapping[str, Any]) -> tuple[Method, list[str]]:
    """Move a method to the device and change it as a pretraining config says.

    Returns:
        The method, and lines that say what is not as usual.

    Raises:
        UsageError: ``gradient_checkpointing`` of a backbone that has no blocks.
    """
    notes: list[str] = []
    method = method.to(get_device())
    if cfg.get('channels_last', True):   # as the views are
        method = method.to(memory_format=torch.channels_last)
    if world_size() > 1 and cfg.get('sync_bn', False):
        method = synchronize_batch_norm(method, get_device())
    if cfg.get('gradient_checkpointing'):
        count = recompute_blocks(method.backbone)
        notes.append(f'{count} blocks are computed again in the backward pass')
    return method, notes
