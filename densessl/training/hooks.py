"""The hooks of a pretraining run. *Step* means optimizer update; with gradient accumulation one
update takes several of mmengine's iterations."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner

from densessl.engine.stop import micro_batches


class StepHook(Hook):
    """Everything that is a function of the step: the learning rate and the global generators'
    seed before it, the method's ``after_step`` after it.

    Args:
        factor: factor of the base learning rate at a step (:mod:`densessl.planning.plan`).
        seed: the run's seed.
        steps: number of steps of the run.
    """

    priority = 'VERY_HIGH'

    def __init__(self, factor: Callable[[int], float], seed: int, steps: int) -> None:
        self.factor, self.seed, self.steps = factor, seed, steps
        # without a GPU, torch.manual_seed queues a call for one, with a traceback, for ever
        self.reseed = (torch.default_generator.manual_seed if get_device() == 'cpu'
                       else torch.manual_seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Reseed from (seed, iteration): dropout and the like are the same after a resume."""
        self.reseed(int(np.random.SeedSequence((self.seed, 2, runner.iter)).generate_state(1)[0]))
        rate = self.factor(runner.iter // micro_batches(runner))
        for group in runner.optim_wrapper.optimizer.param_groups:
            group.setdefault('base_lr', group['lr'])   # kept in the optimizer's own state
            group['lr'] = group['base_lr'] * rate

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Tell the method that the optimizer has updated."""
        step, rest = divmod(runner.iter + 1, micro_batches(runner))
        if rest == 0:
            getattr(runner.model, 'module', runner.model).after_step(step - 1, self.steps)
