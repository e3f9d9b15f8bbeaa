"""The factor that a schedule gives the learning rate at each update of a run."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

from mmengine import Config

from densessl.bounds import Range, Share
from densessl.errors import UsageError, check_arguments, shown

Schedule = Callable[[int], float]


def cosine(step: int, *, steps: int, warmup: int) -> float:
    """Factor of the rate at update ``step`` of ``steps``: linear from 0 over ``warmup`` updates,
    then half a cosine to 0 (SimCLR, BYOL, DetCon)."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def step(step: int, *, steps: int, warmup: int, milestones: Sequence[Share] = (),
         gamma: Annotated[float, Range(above=0)] = 0.1) -> float:
    """Factor ``gamma`` for each milestone passed (a share of the run, 0–1), after linear warm-up
    (MoCo v1: milestones 0.6 and 0.8 of 200 epochs)."""
    passed = sum(step >= milestone * steps - 1e-6 for milestone in milestones)
    return gamma ** passed * constant(step, steps=steps, warmup=warmup)


def constant(step: int, *, steps: int, warmup: int) -> float:
    """Factor 1 after linear warm-up."""
    return min(1.0, step / warmup) if warmup else 1.0


def by_epoch(schedule: Schedule, steps_per_epoch: float) -> Schedule:
    """Hold the factor through each epoch at its value at the epoch's start, as code that sets the
    rate once an epoch does (facebookresearch/moco)."""
    def held(step: int) -> float:
        epoch = int(step / steps_per_epoch + 1e-9)
        return schedule(math.ceil(epoch * steps_per_epoch - 1e-6))   # its first step, not before
    return held


SCHEDULES: dict[str, Callable[..., float]] = {'cosine': cosine, 'step': step, 'constant': constant}


def schedule_of(schedule: Config, steps: int, warmup: int, steps_per_epoch: float) -> Schedule:
    """The factor of the rate at each of ``steps`` updates, as a config's ``schedule`` says.

    Raises:
        UsageError: an unknown type, or a value that it does not take.
    """
    if schedule.type not in SCHEDULES:
        raise UsageError(f'schedule.type {shown(schedule.type)} is unknown; '
                         f'choices: {", ".join(SCHEDULES)}')
    extra = {key: schedule[key] for key in ('milestones', 'gamma') if key in schedule}
    check_arguments(SCHEDULES[schedule.type], {'step': 0, 'steps': 1, 'warmup': 0, **extra},
                    f'schedule {schedule.type!r}')
    factor = functools.partial(SCHEDULES[schedule.type], steps=steps, warmup=warmup, **extra)
    return by_epoch(factor, steps_per_epoch) if schedule.get('by_epoch') else factor
