"""A downstream schedule keeps its shape when the run is made shorter or longer."""
from __future__ import annotations

from typing import Any

from mmengine import Config

_POINTS = ('begin', 'end', 'T_max', 'step_size', 'total_iters')


def scale_schedule(cfg: Config, published: Config, options: dict[str, Any]) -> None:
    """Stretch the learning-rate schedule of ``cfg`` to its length.

    Args:
        cfg: the config with overrides, changed in place.
        published: the same config without, whose schedule belongs to its length.
        options: the overrides; a schedule among them is left alone.
    """
    if any(key.startswith('param_scheduler') for key in options):
        return
    for unit, by_epoch in (('max_iters', False), ('max_epochs', True)):
        old, new = published.train_cfg.get(unit), cfg.train_cfg.get(unit)
        if old and new and old != new:
            for scheduler in _schedulers(cfg):
                if scheduler.get('by_epoch', True) == by_epoch:
                    _stretch(scheduler, new / old)


def _schedulers(cfg: Config) -> list[Any]:
    schedulers = cfg.get('param_scheduler') or []
    return [schedulers] if isinstance(schedulers, dict) else list(schedulers)


def _stretch(scheduler: Any, factor: float) -> None:
    for key in _POINTS:
        if scheduler.get(key):
            scheduler[key] = max(1, round(scheduler[key] * factor))
    if scheduler.get('milestones'):
        scheduler['milestones'] = [max(1, round(point * factor))
                                   for point in scheduler['milestones']]
