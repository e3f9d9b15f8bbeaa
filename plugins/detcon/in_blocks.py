"""A sum over the rows of a batch that never holds what all rows need at once."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 64 * 2 ** 20   # bytes held at once


def sum_in_blocks(function: Callable[..., Tensor], rows: Sequence[Tensor],
                  whole: Sequence[Tensor], bytes_a_row: int) -> Tensor:
    """``function(*rows, *whole)``, computed in blocks of rows of at most :data:`BLOCK` bytes (or of
    a single row).

    Args:
        function: its value is a scalar, the sum of what each row gives.
        rows: (B, …) each; a block has the same rows of all of them.
        whole: what every block needs whole.
        bytes_a_row: what ``function`` holds for a row.
    """
    size = max(1, BLOCK // bytes_a_row)
    parts = [slice(start, start + size) for start in range(0, len(rows[0]), size)]
    return _SumInBlocks.apply(function, parts, len(rows), *rows, *whole)


class _SumInBlocks(torch.autograd.Function):
    """The gradient of each block is taken while its intermediate values are there: neither are they
    kept for the backward pass nor computed again in it."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], parts: list[slice], divided: int,
                *tensors: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        leaves = [t.detach().requires_grad_(want) for t, want in zip(tensors, wanted, strict=True)]
        sources = [leaf for leaf in leaves if leaf.requires_grad]
        total, gradients = 0, [torch.zeros_like(leaf) for leaf in sources]
        for part in parts:
            with torch.set_grad_enabled(bool(sources)):
                value = function(*(leaf[part] for leaf in leaves[:divided]), *leaves[divided:])
            if sources:
                torch._foreach_add_(gradients, torch.autograd.grad(value, sources))
            total = total + value.detach()
        found = iter(gradients)
        ctx.save_for_backward(*(next(found) if want else None for want in wanted))
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(g if g is None else g * upstream for g in ctx.saved_tensors))
