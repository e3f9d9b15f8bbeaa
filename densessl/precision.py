"""Losses in full precision, whatever precision the networks run in."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar('F', bound=Callable[..., Any])


def full_precision(loss: F) -> F:
    """Decorate a function of tensors to run outside autocast, on float32 instead of half types
    (a temperature of 0.1 turns bfloat16's third digit into errors of the loss)."""
    @functools.wraps(loss)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(_widened, args), **{k: _widened(v) for k, v in kwargs.items()})
    return wrapped   # type: ignore[return-value]


def _widened(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value
