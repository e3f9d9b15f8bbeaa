"""The DetCon loss (section 3.1, equations 2–3), in the form of the released code."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densessl.dist import gather, rank
from densessl.precision import full_precision

MASKED = -1e9          # what the released code puts where a logit must not count
BLOCK = 64 * 2 ** 20   # bytes of logits held at once; larger problems are computed blockwise


@full_precision
def detcon_nce(prediction1: Tensor, prediction2: Tensor, target1: Tensor, target2: Tensor,
               ids1: Tensor, ids2: Tensor, temperature: float = 0.1,
               local_negatives: bool = True) -> Tensor:
    """Contrast every region of a view with all regions of both views of all images.

    An anchor's positives are the regions of the same image and id in the *other* view; all of
    them share the target distribution and all stand in the denominator. Regions of the same
    image and id in its *own* view are left out. An anchor without a positive counts with weight
    0, one whose id was drawn k times with weight 1/k.

    Args:
        prediction1, prediction2: (B, R, D) online predictions of the two views' regions.
        target1, target2: (B, R, D) target projections of the same regions.
        ids1, ids2: (B, R) integer region ids.
        temperature: τ.
        local_negatives: whether other regions of the same image are negatives.

    Returns:
        Scalar: the mean over B·R anchors, summed over the two orders of the views. With several
        processes, targets are gathered from all of them.

    Source: google-deepmind/detcon ``utils/losses.py``.
    """
    q1, q2, z1, z2 = (F.normalize(x, dim=-1) for x in (prediction1, prediction2, target1, target2))
    all_z1, all_z2 = gather(z1), gather(z2)                     # (N, R, D), N images in all
    first = rank() * len(q1)                                    # where this process's images are
    return (_one_order(q1, all_z1, all_z2, ids1, ids2, first, temperature, local_negatives)
            + _one_order(q2, all_z2, all_z1, ids2, ids1, first, temperature, local_negatives))


def _one_order(q: Tensor, own: Tensor, other: Tensor, ids: Tensor, ids_other: Tensor, first: int,
               temperature: float, local_negatives: bool) -> Tensor:
    """The loss of the anchors of one view, computed in blocks of images.

    Args:
        q: (B, R, D) anchors; own, other: (N, R, D) all targets of the anchors' and the other view.
        ids, ids_other: (B, R); first: index in N of the anchors' first image.
    """
    batch, regions, _ = q.shape
    bytes_an_image = 2 * regions * own.shape[0] * regions * q.element_size()
    size = max(1, BLOCK // bytes_an_image)

    def block(part: slice, q: Tensor, own: Tensor, other: Tensor) -> Tensor:
        return _block(q[part], own, other, ids[part], ids_other[part], first + part.start,
                      temperature, local_negatives)
    parts = [slice(start, start + size) for start in range(0, batch, size)]
    return _InBlocks.apply(block, parts, q, own, other) / (batch * regions)


class _InBlocks(torch.autograd.Function):
    """The sum of a function over parts of its input. The gradient of each part is taken while its
    logits are there: neither are they kept for the backward pass nor computed again in it."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], parts: list[slice],
                *tensors: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[2:]
        leaves = [t.detach().requires_grad_(want) for t, want in zip(tensors, wanted, strict=True)]
        sources = [leaf for leaf in leaves if leaf.requires_grad]
        total, gradients = 0, [torch.zeros_like(leaf) for leaf in sources]
        for part in parts:
            with torch.set_grad_enabled(bool(sources)):
                value = function(part, *leaves)
            if sources:
                torch._foreach_add_(gradients, torch.autograd.grad(value, sources))
            total = total + value.detach()
        found = iter(gradients)
        ctx.save_for_backward(*(next(found) if want else None for want in wanted))
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(g if g is None else g * upstream for g in ctx.saved_tensors))


def _block(q: Tensor, own: Tensor, other: Tensor, ids: Tensor, ids_other: Tensor, first: int,
           temperature: float, local_negatives: bool) -> Tensor:
    """Sum of the weighted cross-entropies of a block of b images."""
    b = len(q)
    q = q / temperature                              # here, and not in two passes over the logits
    logits_ab = torch.einsum('bud,nvd->bunv', q, other)                         # (b, R, N, R)
    logits_aa = torch.einsum('bud,nvd->bunv', q, own)
    same_ab = ids[:, :, None] == ids_other[:, None, :]                          # (b, R, R)
    same_aa = ids[:, :, None] == ids[:, None, :]
    image = torch.arange(b, device=q.device)
    positive_logits = logits_ab[image, :, first + image]                        # (b, R, R)
    excluded = same_aa if local_negatives else torch.ones_like(same_aa)
    logits_aa[image, :, first + image] += MASKED * excluded
    if not local_negatives:
        logits_ab[image, :, first + image] += MASKED * ~same_ab
    normalizer = torch.logaddexp(logits_ab.flatten(2).logsumexp(2),
                                 logits_aa.flatten(2).logsumexp(2))
    positives = same_ab.sum(2)                                                  # (b, R)
    positive = (positive_logits * same_ab).sum(2) / positives.clamp(min=1)
    weight = (positives > 0) / same_aa.sum(2)                # 1[a positive] / times id was drawn
    return (weight * (normalizer - positive)).sum()
