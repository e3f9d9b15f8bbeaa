"""Losses in full precision, whatever precision the networks run in."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar('F', bound=Callable[..., Any])


def full_precision(loss: F) -> F:
    """Decorate a function of tensors to run outside autocast, on the widest of its arguments' types
    and at least on float32 (a temperature of 0.1 turns bfloat16's third digit into errors of the
    loss)."""
    @functools.wraps(loss)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values())
                   if isinstance(value, Tensor) and value.is_floating_point()]
        dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*(_widened(value, dtype) for value in args),
                        **{name: _widened(value, dtype) for name, value in kwargs.items()})
    return wrapped   # type: ignore[return-value]


def _widened(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
