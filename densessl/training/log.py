"""What a run logs: collected on the device and the host, read and written once an interval."""
from __future__ import annotations

import logging
import math
import os
import time
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import RuntimeInfoHook
from mmengine.optim import OptimWrapper
from mmengine.runner import LogProcessor, Runner
from torch import Tensor

from densessl.engine.finite import not_finite, require_finite_weights
from densessl.watch.alarms import WAITING

FILE_ONLY = {'file_only': True}     # of a record that is not for the console


class LogValuesHook(RuntimeInfoHook):
    """Takes the place of mmengine's hooks for values and times, which wait for the device in every
    iteration and append to histories whose copying grows with the run. Losses stay on the device
    and are read together, once a logging interval; what is logged are means over the interval:

    * the losses, over processes too; ``lr``; ``images_per_s`` over all processes; ``grad_norm``
      where gradients are clipped by their norm;
    * ``time``, the seconds an iteration; ``data_time``, those of it spent waiting for data. What
      a probe takes is not training and in neither.

    Args:
        interval: iterations between two readings, the logger's interval.
        batch_size: samples an iteration of one process.
    """

    def __init__(self, interval: int, batch_size: int) -> None:
        self.interval, self.batch_size = interval, batch_size
        self.pending: list[dict[str, Tensor]] = []
        self.norms: list[Tensor] = []       # of clipped gradients, one an update
        self.since = self.waited = self.aside = self.spent = 0.0
        self.timed = 0      # iterations in `spent`

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        keep_norms(runner.optim_wrapper, self.norms)
        self.since, self.waited = time.perf_counter(), runner.train_loop.waited
        self.aside = runner.train_loop.aside

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Nothing: mmengine's hook would copy the history of the learning rate."""

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Tensor] | None = None) -> None:
        self.pending.append({name: value.detach() for name, value in (outputs or {}).items()})
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._read(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint after a loss that is not finite, or of weights that are not: it would
        replace a good one."""
        values = [value.float() for row in self.pending for value in row.values()]
        if values and not torch.isfinite(torch.stack(values)).all():
            raise not_finite(runner)
        require_finite_weights(runner.iter + 1, checkpoint.get('state_dict', {}))

    def _read(self, runner: Runner) -> None:
        values = self._losses(runner)        # waits for the device, so the time is the device's
        now, waited = time.perf_counter(), runner.train_loop.waited
        aside = runner.train_loop.aside
        seconds, count = now - self.since - (aside - self.aside), len(self.pending)
        values |= {'lr': runner.optim_wrapper.get_lr()['lr'][0], 'time': seconds / count,
                   'data_time': (waited - self.waited) / count,
                   'images_per_s': count * self.batch_size * get_world_size() / seconds}
        for name, value in values.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        runner.message_hub.update_info('iter', runner.iter)
        self.spent, self.timed = self.spent + seconds, self.timed + count
        left = runner.max_iters - runner.iter - 1
        runner.message_hub.update_info('eta', self.spent / self.timed * left)
        self.pending, self.since, self.waited, self.aside = [], now, waited, aside
        self.norms.clear()

    def _losses(self, runner: Runner) -> dict[str, float]:
        """The mean of each of the method's values over the interval and the processes."""
        names = list(self.pending[0])
        if not names:
            return {}
        table = torch.stack([row[name].float() for row in self.pending for name in names])
        means = table.view(-1, len(names)).mean(0)
        all_reduce(means, 'mean')   # each process sees the loss of its own images
        if self.norms:
            means = torch.cat([means, torch.stack(self.norms).float().mean()[None]])
        values = dict(zip([*names, 'grad_norm'], means.tolist(), strict=False))
        if not all(math.isfinite(values[name]) for name in names):
            raise not_finite(runner)
        return values


def keep_norms(wrapper: OptimWrapper, norms: list[Tensor]) -> None:
    """Have a wrapper that clips gradients by their norm append the norm to ``norms``, where
    mmengine's reads it from the device in every update."""
    if getattr(wrapper, 'clip_func', None) is not torch.nn.utils.clip_grad_norm_:
        return

    def clip(*args: Any, **kwargs: Any) -> None:
        norms.append(torch.nn.utils.clip_grad_norm_(*args, **kwargs).detach())
    wrapper.clip_func = clip


class WaitingLogProcessor(LogProcessor):
    """Adds to a line of the log the share of the time that was spent waiting for data, and says
    once what to do when it is more than :data:`WAITING`.

    Args:
        workers: loader processes of this process.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(window_size=1, by_epoch=False)   # what is logged are means already
        self.workers = workers
        self.lines, self.advised = 0, False
        self.health: dict[str, float] = {}      # what goes to every backend, too, but not in the
                                                # line: a terminal has room for no more

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str
                           ) -> tuple[dict[str, Any], str]:
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if self.health:
            tag |= self.health
            words = '  '.join(f'{name}: {value:.4g}' for name, value in self.health.items())
            runner.logger.info(f'health: {words}', extra=FILE_ONLY)
            self.health = {}
        if not tag.get('time'):
            return tag, line
        tag['waiting'] = tag['data_time'] / tag['time']
        self.lines += 1
        line = f'{line}  waiting for data: {tag["waiting"]:.0%}'
        # not by the first line: the workers were still starting
        if tag['waiting'] > WAITING and self.lines > 1 and not self.advised:
            self.advised = True
            line += self._advice()
        return tag, line

    def _advice(self) -> str:
        cores = (os.cpu_count() or 1) // get_world_size()
        if self.workers >= cores:
            return ''
        return (f' (more workers may help: train_dataloader.num_workers={self.workers}, and there '
                f'are {cores} cores a process)')


def write_any_name(handler: logging.FileHandler) -> None:
    """Have a log take names of files that are not UTF-8, with escapes in them."""
    handler.stream.reconfigure(encoding='utf-8', errors='backslashreplace')
