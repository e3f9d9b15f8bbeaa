"""The hooks of a pretraining run. *Step* means optimizer update; with gradient accumulation one
update takes several of mmengine's iterations."""
from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor


class Interrupted(Exception):
    """The run was asked to stop and has saved a checkpoint."""


def micro_batches(runner: Runner) -> int:
    """How many iterations make one optimizer update."""
    return runner.optim_wrapper._accumulative_counts


class StepHook(Hook):
    """Everything that is a function of the step: the learning rate and the global generators'
    seed before it, the method's ``after_step`` after it.

    Args:
        factor: factor of the base learning rate at a step (:mod:`densessl.engine.schedules`).
        seed: the run's seed.
        steps: number of steps of the run.
    """

    priority = 'VERY_HIGH'

    def __init__(self, factor: Callable[[int], float], seed: int, steps: int) -> None:
        self.factor, self.seed, self.steps = factor, seed, steps

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Reseed from (seed, iteration): dropout and the like are the same after a resume."""
        torch.manual_seed(int(np.random.SeedSequence((self.seed, 2, runner.iter))
                              .generate_state(1)[0]))
        rate = self.factor(runner.iter // micro_batches(runner))
        for group in runner.optim_wrapper.optimizer.param_groups:
            group.setdefault('base_lr', group['lr'])   # kept in the optimizer's own state
            group['lr'] = group['base_lr'] * rate

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Tell the method that the optimizer has updated."""
        step, rest = divmod(runner.iter + 1, micro_batches(runner))
        if rest == 0:
            getattr(runner.model, 'module', runner.model).after_step(step - 1, self.steps)


class LogValuesHook(RuntimeInfoHook):
    """mmengine's hook without its device sync in every iteration: losses stay on the device and
    are read together, once a logging interval. Adds images/s.

    Args:
        interval: iterations between two readings, the logger's interval.
        batch_size: samples an iteration of one process.
    """

    def __init__(self, interval: int, batch_size: int) -> None:
        self.interval, self.batch_size = interval, batch_size
        self.pending: list[dict[str, Tensor]] = []
        self.since = 0.0

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.since = time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Tensor] | None = None) -> None:
        self.pending.append(outputs or {})
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._read(runner)

    def _read(self, runner: Runner) -> None:
        names = list(self.pending[0])
        if names:
            table = torch.stack([torch.stack([row[name].float() for name in names])
                                 for row in self.pending])
            all_reduce(table, 'mean')   # over processes: each sees the loss of its own images
            table = table.cpu()
            for row in table.tolist():
                for name, value in zip(names, row, strict=True):
                    runner.message_hub.update_scalar(f'train/{name}', value)
            if not torch.isfinite(table).all():
                raise FloatingPointError(
                    f'the loss is not finite around iteration {runner.iter + 1}: lower the '
                    f'learning rate or lengthen the warm-up; the last checkpoint is good')
        seconds = time.perf_counter() - self.since
        images = len(self.pending) * self.batch_size * get_world_size()
        runner.message_hub.update_scalar('train/images_per_s', images / seconds)
        self.pending, self.since = [], time.perf_counter()


class StopHook(Hook):
    """On SIGINT or SIGTERM (Ctrl-C, a scheduler's preemption): finish the iteration, save a
    checkpoint, stop. A second signal stops at once."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.asked = 0
        self.previous: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        asked = self.asked
        if get_world_size() > 1:   # all ranks stop at the same iteration or none does
            asked = self._any_rank(asked) if runner.iter % 10 == 9 else 0
        if asked:
            runner.save_checkpoint(runner.work_dir, f'iter_{runner.iter + 1}.pth', by_epoch=False)
            raise Interrupted(f'stopped after iteration {runner.iter + 1}; '
                              f'add --resume to the command to go on')

    def _any_rank(self, asked: int) -> int:
        flag = torch.tensor(asked, device='cuda' if torch.distributed.get_backend() == 'nccl'
                            else 'cpu')
        all_reduce(flag, 'max')
        return int(flag)

    def after_train(self, runner: Runner) -> None:
        self._restore()
