"""Learning-rate schedules as closed functions of the optimizer update."""
from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def cosine(step: int, *, steps: int, warmup: int) -> float:
    """Factor of the rate at update ``step`` of ``steps``: linear from 0 over ``warmup`` updates,
    then half a cosine to 0 (SimCLR, BYOL, DetCon)."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def constant(step: int, *, steps: int, warmup: int) -> float:
    """Factor 1 after linear warm-up."""
    return min(1.0, step / warmup) if warmup else 1.0


SCHEDULES: dict[str, Callable[..., float]] = {'cosine': cosine, 'constant': constant}
