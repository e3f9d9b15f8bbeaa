"""The hooks by which a run is watched, from its config."""
from __future__ import annotations

from collections.abc import Mapping

from mmengine import Config
from mmengine.hooks import Hook

from densessl.errors import UsageError, escaped
from densessl.method import Method
from densessl.pixels.pixel_rule import PixelRule
from densessl.registry import METHODS
from densessl.watch.alarms import queue_alarms
from densessl.watch.health import HealthHook
from densessl.watch.labelled import probe_settings, read_labelled
from densessl.watch.probe_hook import ProbeHook


def settle_probe(cfg: Config, data: str | None) -> None:
    """Put ``data`` of ``--probe`` into ``cfg``, and check what that says.

    Raises:
        UsageError: what it says is not allowed.
    """
    if data is not None:
        section = cfg.get('probe')
        cfg.probe = {**(section if isinstance(section, Mapping) else {}), 'data': data}
    probe_settings(cfg)


def watch_hooks(cfg: Config, method: type[Method], *, lines: int, images: int, global_batch: int,
                start: str | None, is_first: bool) -> list[Hook]:
    """What watches a run; the labelled images of a probe are read by the first process.

    Args:
        lines: iterations between two lines of the log. images: of the data set.
        global_batch: images an update. start: the weights that the run starts from.
        is_first: whether this is the first process.

    Raises:
        UsageError: the labelled images cannot be used.
    """
    queue = None
    if not method.batch_negatives:
        queue = METHODS.build(cfg.model.to_dict()).negatives(global_batch)
    hooks: list[Hook] = [HealthHook(lines, queue_alarms(queue=queue, global_batch=global_batch,
                                                        images=images))]
    if (probe := probe_settings(cfg)) is not None:
        try:
            data = read_labelled(probe, PixelRule.of(cfg)) if is_first else None
        except UsageError as error:
            raise UsageError(f'probe: {escaped(str(error))}') from error
        hooks.append(ProbeHook(probe, data, cfg.normalization.to_dict(), interval=lines,
                               keep_best=bool(cfg.checkpoint.get('keep_best')),
                               start=start or 'random weights'))
    return hooks
