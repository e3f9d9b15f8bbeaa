"""Gradient checkpointing, by a config's ``gradient_checkpointing``: a backbone keeps the inputs of
its blocks alone, and computes the rest again in the backward pass, for about a third of its time.
"""
from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from densessl.errors import UsageError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recompute_blocks(backbone: nn.Module) -> int:
    """Have the blocks of a backbone computed again in the backward pass. The names of parameters
    and the hooks on the modules stay what they are, and so do losses and gradients.

    Returns:
        How many blocks there are.

    Raises:
        UsageError: the backbone is not made of blocks.
    """
    found = blocks(backbone)
    if not found:
        raise UsageError(f'gradient_checkpointing: the backbone {type(backbone).__name__} has no '
                         f'blocks that repeat; leave it out, or choose a network that has them '
                         f'(ResNet, ConvNeXt, Swin, ViT, RegNet, EfficientNet and the like)')
    for block in found:
        block.forward = _recomputed(block, block.forward)
    return len(found)


def blocks(backbone: nn.Module) -> list[nn.Module]:
    """The outermost modules of a class that occurs several times and is not PyTorch's own: a
    ResNet's bottlenecks, a transformer's layers or stages, in whatever containers they are."""
    counts = Counter(type(module) for module in backbone.modules())

    def within(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if _is_block(child) and counts[type(child)] > 1:
                yield child
            else:
                yield from within(child)
    return list(within(backbone))


def _is_block(module: nn.Module) -> bool:
    return (any(True for _ in module.children()) and any(True for _ in module.parameters())
            and not isinstance(module, (*CONTAINERS, _NormBase))
            and not type(module).__module__.startswith('torch.nn.'))


def _recomputed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    norms = [module for module in block.modules() if isinstance(module, _NormBase)]

    @functools.wraps(forward)
    def again(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():     # a target network keeps nothing anyway
            return forward(*args, **kwargs)
        # a dense block appends to the list that its layers were given
        args = [list(one) if isinstance(one, list) else one for one in args]
        return checkpoint(forward, *args, use_reentrant=False,
                          context_fn=lambda: (nullcontext(), _statistics_kept(norms)), **kwargs)
    return again


@contextmanager
def _statistics_kept(norms: list[nn.Module]) -> Iterator[None]:
    """Within, batch norms normalize as they do, and what they add to their running statistics is
    thrown away: those have taken in the batch already."""
    kept = [(norm, name, buffer) for norm in norms
            for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
