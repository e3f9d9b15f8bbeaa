"""How features lie in their space: whether they tell anything apart, and by how many directions."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def effective_rank(features: Tensor) -> Tensor:
    """exp(−Σ p log p) of p = σ / Σσ, the singular values of ``features``: by how many directions
    they differ (RankMe, Garrido et al. 2023, arXiv 2210.02885, Eq. 1–2).

    Args:
        features: (N, D). At most min(N, D) comes out.

    Returns:
        Scalar: k for k equal singular values, 1 for features that are all the same, or all 0.
    """
    rows = features.detach().double()
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    squares = torch.linalg.eigvalsh(gram).clamp(min=0)
    # what rounding leaves of a 0 would count 1e-8 of the largest each
    squares = torch.where(squares > 1e-12 * squares[-1:], squares, torch.zeros_like(squares))
    singular = squares.sqrt()
    p = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.special.entr(p).sum().exp()


def spread(features: Tensor) -> Tensor:
    """How far apart the images of a batch are: √(Σ_c Var_b[f_c / ‖f‖]), which is
    √(1 − ‖mean f/‖f‖‖²) unless features are 0.

    Args:
        features: (B, C, h, w) map.

    Returns:
        Scalar in [0, 1]: 0 if all images have the same pooled features, or none.
    """
    f = F.normalize(features.detach().float().mean((2, 3)), dim=1)    # (B, C)
    return (f.square().sum(1).mean() - f.mean(0).square().sum()).clamp(min=0).sqrt()


def alignment(first: Tensor, second: Tensor, positive: Tensor | None = None) -> Tensor:
    """The mean of ‖x − y‖² over the positive pairs of normalized features (Wang and Isola 2020,
    arXiv 2005.10242, section 4.1).

    Args:
        first, second: (N, D), normalized. positive: (N, N) which pairs are positive; each row with
            its own if None.
    """
    if positive is None:
        return (first - second).square().sum(1).mean()
    distance = (2 - 2 * first @ second.T).clamp(min=0)
    return (distance * positive).sum() / positive.sum().clamp(min=1)


def uniformity(features: Tensor) -> Tensor:
    """log of the mean of exp(−2‖x − y‖²) over pairs of different rows (the same paper): 0 if all
    are the same, about −4 if they are spread evenly over a sphere of many dimensions.

    Args:
        features: (N, D), normalized, N at least 2.
    """
    distance = (2 - 2 * features @ features.T).clamp(min=0)           # (N, N)
    pairs = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    return ((-2 * distance).exp() * pairs).sum().div(pairs.sum()).log()


def cells_of(maps: Tensor, most: int) -> Tensor:
    """Feature vectors (n, C) of at most ``most`` cells of maps (B, C, h, w), evenly over all."""
    cells = maps.detach().permute(0, 2, 3, 1).flatten(0, 2)
    return cells[::-(-len(cells) // most)]


def mean_regions(mask: Tensor, most: int) -> Tensor:
    """How many ids a label map (B, H, W) with ids below ``most`` has, the mean over B."""
    there = torch.zeros(len(mask), most, device=mask.device)
    return there.scatter_(1, mask.flatten(1).long(), 1.0).sum(1).mean()
