"""The DetCon loss (section 3.1, equations 2–3), in the form of the released code."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from densessl.dist import gather, rank, world_size
from densessl.precision import full_precision
from densessl_plugins.detcon.in_blocks import sum_in_blocks

MASKED = -1e9          # what the released code puts where a logit must not count


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
    all_z1, all_z2 = gather(z1), gather(z2)                         # (N, R, D), N images in all
    image = rank() * len(q1) + torch.arange(len(q1), device=q1.device)    # (B,): ours among the N

    def contrast(q: Tensor, ids: Tensor, ids_other: Tensor, image: Tensor, own: Tensor,
                 other: Tensor) -> Tensor:
        """Σ −log Eq. 3 over the regions q (b, R, D) of a view of b images."""
        q, row = q / temperature, torch.arange(len(q), device=q.device)
        logits_ab = torch.einsum('bud,nvd->bunv', q, other)                     # (b, R, N, R)
        logits_aa = torch.einsum('bud,nvd->bunv', q, own)
        same_ab = ids[:, :, None] == ids_other[:, None, :]                      # (b, R, R)
        same_aa = ids[:, :, None] == ids[:, None, :]
        positive_logits = logits_ab[row, :, image]                              # (b, R, R)
        logits_aa[row, :, image] += MASKED * same_aa if local_negatives else MASKED
        if not local_negatives:
            logits_ab[row, :, image] += MASKED * ~same_ab
        normalizer = torch.logaddexp(logits_ab.flatten(2).logsumexp(2),
                                     logits_aa.flatten(2).logsumexp(2))         # (b, R)
        positives = same_ab.sum(2)
        positive = (positive_logits * same_ab).sum(2) / positives.clamp(min=1)
        weight = (positives > 0) / same_aa.sum(2)            # 1[a positive] / times id was drawn
        return (weight * (normalizer - positive)).sum()

    bytes_an_image = 2 * ids1.shape[1] * all_z1[..., 0].numel() * q1.element_size()     # of logits
    loss1 = sum_in_blocks(contrast, (q1, ids1, ids2, image), (all_z1, all_z2), bytes_an_image)
    loss2 = sum_in_blocks(contrast, (q2, ids2, ids1, image), (all_z2, all_z1), bytes_an_image)
    return loss1 / ids1.numel() + loss2 / ids1.numel()


def detcon_chance(ids1: Tensor, ids2: Tensor, local_negatives: bool = True) -> Tensor:
    """What :func:`detcon_nce` is if all regions have the same features: the mean of weight · ln of
    the number of candidates, summed over the two orders of the views.

    Args:
        ids1, ids2: (B, R) region ids of the two views.
    """
    regions = ids1.shape[1]
    images = len(ids1) * world_size()
    total = 0
    for ids, other in ((ids1, ids2), (ids2, ids1)):
        positives = (ids[:, :, None] == other[:, None]).sum(2)                  # (B, R)
        times = (ids[:, :, None] == ids[:, None]).sum(2)
        candidates = (2 * images * regions - times if local_negatives else
                      2 * (images - 1) * regions + positives)
        total = total + ((positives > 0) / times * candidates.clamp(min=1).log()).mean()
    return total
