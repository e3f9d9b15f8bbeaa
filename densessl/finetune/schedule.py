"""A downstream schedule keeps its shape when the run is made shorter or longer."""
from __future__ import annotations

from typing import Any

from mmengine import Config

from densessl.errors import UsageError

_POINTS = ('begin', 'end', 'T_max', 'step_size', 'total_iters')
_WARMUPS = ('LinearLR', 'ConstantLR')
LONGEST_WARMUP = 0.1    # of a run that counts epochs
_SHORTEST = 2    # steps: mmengine leaves the rate at the start of a warm-up of one, for ever


def own_schedule(options: dict[str, Any] | None) -> bool:
    """Whether a schedule is among the overrides."""
    return any(key.startswith('param_scheduler') for key in options or {})


def scale_schedule(cfg: Config, published: Config, options: dict[str, Any]) -> None:
    """Stretch the learning-rate schedule of ``cfg`` to its length: what counts iterations in a run
    that counts epochs (a warm-up), too.

    Args:
        cfg: the config with overrides, changed in place.
        published: the same config without, whose schedule belongs to its length.
        options: the overrides; a schedule among them is left alone.
    """
    if own_schedule(options):
        return
    for unit in ('max_iters', 'max_epochs'):
        old, new = published.train_cfg.get(unit), cfg.train_cfg.get(unit)
        if old and new and old != new:
            for scheduler in _schedulers(cfg.get('param_scheduler')):
                _stretch(scheduler, new / old)


def shorten_warmups(schedulers: Any, iterations: int) -> list[str]:
    """Shorten warm-ups of so many iterations that too little is left of a run that counts epochs:
    on fewer images than the config was written for, an epoch has fewer iterations.

    Args:
        schedulers: of a config; changed in place.
        iterations: of the run.

    Returns:
        What was changed, a line each.
    """
    lines, longest = [], max(_SHORTEST, int(iterations * LONGEST_WARMUP))
    for scheduler in _schedulers(schedulers):
        end = isinstance(scheduler, dict) and scheduler.get('end')
        if (not end or scheduler.get('by_epoch', True) or scheduler.get('begin')
                or scheduler.get('type') not in _WARMUPS or end <= longest):
            continue
        scheduler['end'] = longest
        lines.append(f'warm-up ({scheduler["type"]}) of {end} → {longest} iterations: a tenth of '
                     f'the {iterations} that this run has on so many images')
        for other in _schedulers(schedulers):     # what begins where the warm-up ended
            if not other.get('by_epoch', True) and other.get('begin') == end:
                other['begin'] = longest
    return lines


def check_warmups(schedulers: Any, iterations: int | None, epochs: int | None) -> None:
    """Refuse a warm-up that the run does not get to the end of: the rate would never be what the
    config says. The shortest that there is may be longer than a run of a single step.

    Args:
        schedulers: of a config.
        iterations, epochs: of the run, as far as they are known.

    Raises:
        UsageError: such a warm-up, by its key.
    """
    for i, scheduler in enumerate(_schedulers(schedulers)):
        if not isinstance(scheduler, dict) or scheduler.get('type') not in _WARMUPS:
            continue
        unit, length = (('epochs', epochs) if scheduler.get('by_epoch', True)
                        else ('iterations', iterations))
        end = scheduler.get('end')
        if isinstance(end, (int, float)) and length and end > max(length, _SHORTEST):
            raise UsageError(f'param_scheduler.{i}.end {end:g}: the warm-up is longer than the run '
                             f'of {length} {unit}; choose a shorter one')


def _schedulers(schedulers: Any) -> list[Any]:
    return [schedulers] if isinstance(schedulers, dict) else list(schedulers or [])


def _stretch(scheduler: Any, factor: float) -> None:
    for key in _POINTS:
        if scheduler.get(key):
            least = _SHORTEST if key == 'end' and scheduler['end'] >= _SHORTEST else 1
            scheduler[key] = max(least, round(scheduler[key] * factor))
    if scheduler.get('milestones'):
        scheduler['milestones'] = [max(1, round(point * factor))
                                   for point in scheduler['milestones']]
