"""The target network: a copy that follows the online network by exponential moving average."""
from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import nn


def target_of(online: nn.Module) -> nn.Module:
    """A copy of ``online`` whose parameters take no gradient."""
    return deepcopy(online).requires_grad_(False)


def copy_weights(target: nn.Module, online: nn.Module) -> None:
    """Make the target equal to the online network, buffers included."""
    target.load_state_dict(online.state_dict())


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """ξ ← τ·ξ + (1 − τ)·θ over parameters; buffers (BN statistics) stay the target's own."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - tau)


def cosine_tau(step: int, max_steps: int, base: float) -> float:
    """τ_k = 1 − (1 − τ_base)·(cos(πk/K) + 1)/2 (BYOL, section 3.2)."""
    return 1 - (1 - base) * (math.cos(math.pi * step / max_steps) + 1) / 2
