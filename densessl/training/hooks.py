"""The hooks of a pretraining run. *Step* means optimizer update; with gradient accumulation one
update takes several of mmengine's iterations."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from densessl.engine.stop import micro_batches


class StepHook(Hook):
    """Everything that is a function of the step: the learning rate and the global generators'
    seed before it, the method's ``after_step`` after it.

    Args:
        factor: factor of the base learning rate at a step (:mod:`densessl.training.plan`).
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
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Tell the method that the optimizer has updated."""
        step, rest = divmod(runner.iter + 1, micro_batches(runner))
        if rest == 0:
            getattr(runner.model, 'module', runner.model).after_step(step - 1, self.steps)


COLLAPSED = 0.02   # a random ResNet gives about 0.1–0.3, a trained one more


def spread(features: Tensor) -> Tensor:
    """How far apart the images of a batch are: √(Σ_c Var_b[f_c / ‖f‖]), which is
    √(1 − ‖mean f/‖f‖‖²) unless features are 0.

    Args:
        features: (B, C, h, w) map.

    Returns:
        Scalar in [0, 1]: 0 if all images have the same pooled features, or zeros.
    """
    f = F.normalize(features.detach().float().mean((2, 3)), dim=1)    # (B, C)
    return (f.square().sum(1).mean() - f.mean(0).square().sum()).clamp(min=0).sqrt()


class CollapseHook(Hook):
    """Logs :func:`spread` of the last feature map as ``spread`` and warns when it is near 0.

    Args:
        interval: iterations between two looks, the logger's interval.
    """

    priority = 'HIGH'

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.look = False
        self.value: Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        method = getattr(runner.model, 'module', runner.model)
        method.backbone.register_forward_hook(self._see)

    def _see(self, module: nn.Module, inputs: Any, maps: Any) -> None:
        if self.look and len(maps[-1]) > 1:   # one image is never apart from itself
            self.value = spread(maps[-1])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.look = self.every_n_train_iters(runner, self.interval)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        if not self.look or self.value is None:
            return
        all_reduce(self.value, 'mean')
        value = float(self.value)
        runner.message_hub.update_scalar('train/spread', value)
        if value < COLLAPSED:
            runner.logger.warning(
                f'iteration {runner.iter + 1}: the features of a batch are nearly the same '
                f'(spread {value:.3f} of 1): the backbone is collapsing; lower the learning rate '
                f'or lengthen the warm-up')
