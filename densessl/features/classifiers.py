"""Linear classification of frozen features by multinomial logistic regression.

The problem is convex, so it is solved and not merely trained for a while: L-BFGS, with the weight
decay chosen on held-out training images, as in Kornblith et al. 2019 (appendix A) and Chen et al.
2020 (SimCLR, appendix B.8). There is no learning rate, schedule or augmentation to tune.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# λ of mean cross-entropy + λ/2 · ‖W‖², strongest first, so that each start is close to its solution
DECAYS = tuple(10.0 ** (power / 2) for power in range(2, -13, -1))
SPREAD = 1e-6       # of the largest: channels that vary less carry nothing
ITERATIONS = 300


@dataclass(frozen=True)
class LinearClassifier:
    """Scores (N, classes) = standardized features · weight + bias."""

    mean: Tensor        # (C,)
    std: Tensor         # (C,)
    weight: Tensor      # (C, classes)
    bias: Tensor        # (classes,)

    def __call__(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.std) @ self.weight + self.bias


def fit_linear(features: Tensor, labels: Tensor, *, classes: int, decay: float,
               start: LinearClassifier | None = None, iterations: int = ITERATIONS
               ) -> LinearClassifier:
    """Solve logistic regression on features (N, C) with labels (N,).

    Args:
        decay: λ, of the weights of standardized features; the bias has none.
        start: a solution for another λ to begin from. iterations: of L-BFGS, at most.
    """
    mean, std = standardization(features)
    inputs = (features - mean) / std
    weight = torch.zeros(features.shape[1], classes, dtype=inputs.dtype, device=inputs.device)
    bias = torch.zeros(classes, dtype=inputs.dtype, device=inputs.device)
    if start is not None:
        weight, bias = start.weight.clone(), start.bias.clone()
    weight.requires_grad_(), bias.requires_grad_()
    solver = torch.optim.LBFGS([weight, bias], max_iter=iterations, tolerance_grad=1e-6,
                               tolerance_change=1e-10, history_size=20,
                               line_search_fn='strong_wolfe')

    def objective() -> Tensor:
        solver.zero_grad()
        loss = cross_entropy(inputs @ weight + bias, labels) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    return LinearClassifier(mean, std, weight.detach(), bias.detach())


def choose_decay(features: Tensor, labels: Tensor, held_out: Tensor, *, classes: int,
                 decays: Sequence[float] = DECAYS) -> float:
    """The λ that classifies the ``held_out`` images (N,) bool best after fitting the others; of
    equals the strongest."""
    best, chosen, solution = -1.0, decays[0], None
    for decay in decays:
        solution = fit_linear(features[~held_out], labels[~held_out], classes=classes, decay=decay,
                              start=solution)
        right = solution(features[held_out]).argmax(1) == labels[held_out]
        if float(right.float().mean()) > best:
            best, chosen = float(right.float().mean()), decay
    return chosen


def standardization(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of (N, C); channels that are constant get 1, and so end as
    zeros."""
    mean, std = features.mean(0), features.std(0, unbiased=False)
    return mean, torch.where(std > SPREAD * std.max().clamp(min=1e-30), std, torch.ones_like(std))
