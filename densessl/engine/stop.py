"""How a run stops when a signal asks it to: after the iteration, with a checkpoint. *Update* means
an optimizer's; with gradient accumulation one takes several of mmengine's iterations."""
from __future__ import annotations

import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from densessl.engine.checkpoint_file import note_newest
from densessl.engine.requeue import SIGNAL, ToBeRequeued
from densessl.errors import Interrupted
from densessl.machine.signals import ProcessSignals

SAME_REQUEST = 5.0    # seconds within which further signals are of the same request


def micro_batches(runner: Runner) -> int:
    """How many iterations make one optimizer update."""
    return runner.optim_wrapper._accumulative_counts


def save_newest(runner: Runner, done: int) -> None:
    """Save a checkpoint after ``done`` iterations, whatever the interval is."""
    path = Path(runner.work_dir) / f'iter_{done}.pth'
    runner.save_checkpoint(runner.work_dir, path.name, by_epoch=False)
    if path.exists():       # written by the first process alone
        note_newest(runner.work_dir, path)


class StopHook(Hook):
    """On SIGINT or SIGTERM (Ctrl-C, a scheduler's preemption), or on SIGUSR1 (the job's time is
    nearly up): finish the iteration, save a checkpoint, stop. A second signal stops at once, if it
    is not one of the several that launchers send at once.

    Of several processes each may be signalled at another time, or only one of them, but all must
    stop after the same iteration. They tell one another through a group of their own on the CPU:
    what is asked in one iteration is exchanged while the next one runs, so that nobody waits for
    the device or for the others.

    Args:
        patience: how long a process waits for the others; None: as torch has it.
    """

    priority = 'LOWEST'

    def __init__(self, patience: timedelta | None = None) -> None:
        self.patience = patience
        self.asked, self.since = 0, 0.0
        self.signals = ProcessSignals(self._ask)
        self.group: Any = None
        self.exchange: Any = None                  # the reduction that runs
        self.flag = np.zeros(1, np.int64)          # what it reduces

    def before_train(self, runner: Runner) -> None:
        if get_world_size() > 1:
            self.group = distributed.new_group(backend='gloo', timeout=self.patience)
        self.signals.take()

    def _ask(self, number: int, frame: Any) -> None:
        if not self.asked:
            self.asked, self.since = number, time.monotonic()
        elif number != SIGNAL and time.monotonic() - self.since > SAME_REQUEST:
            self.signals.give_back()
            signal.raise_signal(number)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        asked = self._anybody_asked() if self.group else self.asked
        if asked and (runner.iter + 1) % micro_batches(runner) == 0:   # never within an update
            self.stop(runner, runner.iter + 1)

    def stop(self, runner: Runner, done: int) -> NoReturn:
        """Save and stop, ``done`` iterations being done."""
        words = self.save(runner, done)
        if self.group:   # when one process leaves, the launcher kills the others
            distributed.barrier(self.group)
        number = int(self.flag[0]) if self.group else self.asked
        raise (ToBeRequeued if number == SIGNAL else Interrupted)(words)

    def save(self, runner: Runner, done: int) -> str:
        """Save a checkpoint; return what the user is told."""
        save_newest(runner, done)
        return f'stopped after iteration {done}; add --resume to the command to go on'

    def _anybody_asked(self) -> bool:
        """Whether any process had been asked by the end of the last iteration."""
        anybody = False
        if self.exchange:
            self.exchange.wait()
            anybody = bool(self.flag[0])
        if not anybody:
            self.flag[0] = self.asked
            self.exchange = distributed.all_reduce(torch.from_numpy(self.flag),
                                                   distributed.ReduceOp.MAX, self.group,
                                                   async_op=True)
        return anybody

    def after_train(self, runner: Runner) -> None:
        if self.exchange:
            self.exchange.wait()
        self.signals.give_back()
