"""The hooks by which a run is watched, from its config."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine import Config
from mmengine.hooks import Hook

from densessl.errors import UsageError
from densessl.method import Method
from densessl.pixels.pixel_rule import PixelRule
from densessl.registry import METHODS
from densessl.training.plan import Plan
from densessl.watch.alarms import queue_alarms
from densessl.watch.health import HealthHook
from densessl.watch.labelled import ProbeSettings, probe_settings, read_labelled
from densessl.watch.probe_hook import ProbeHook


def settle_probe(cfg: Config, options: Mapping[str, Any], data: str | None
                 ) -> ProbeSettings | None:
    """Put ``--probe`` into ``cfg``, and read what that says; None if there is to be no probe.

    Args:
        options: the user's overrides by dotted key. data: of ``--probe``.

    Raises:
        UsageError: both say different things, or what they say is not allowed.
    """
    if data is not None:
        said = options.get('probe.data', data)
        if said != data:
            raise UsageError(f'--cfg-options probe.data {said} and --probe {data} say different '
                             f'things: leave one of them out')
        section = cfg.get('probe')
        cfg.probe = {**(section if isinstance(section, Mapping) else {}), 'data': data}
    section = cfg.get('probe')
    return probe_settings(section.to_dict() if isinstance(section, Config) else section,
                          keep_best=bool(cfg.checkpoint.get('keep_best')))


def watch_hooks(cfg: Config, plan: Plan, method: type[Method], images: int,
                probe: ProbeSettings | None, *, is_first: bool) -> list[Hook]:
    """What watches a run; the labelled images of a probe are read by the first process.

    Args:
        images: of the data set. is_first: whether this is the first process.

    Raises:
        UsageError: the labelled images cannot be used.
    """
    interval = min(cfg.log_interval, plan.steps * plan.accumulate)
    hooks: list[Hook] = [HealthHook(interval, queue_alarms(
        queue=_queue(cfg, plan, method), global_batch=plan.global_batch, images=images))]
    if probe is not None:
        data = read_labelled(probe, PixelRule.of(cfg)) if is_first else None
        hooks.append(ProbeHook(probe, data, cfg.normalization.to_dict(), interval=interval,
                               keep_best=bool(cfg.checkpoint.get('keep_best'))))
    return hooks


def _queue(cfg: Config, plan: Plan, method: type[Method]) -> int | None:
    """How many negatives a method keeps from earlier steps."""
    if method.batch_negatives:
        return None
    return METHODS.build(cfg.model.to_dict()).negatives(plan.global_batch // plan.accumulate)
