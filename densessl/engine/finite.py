"""A run whose loss or weights are not finite ends: what it would save or score is worth nothing."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor

from densessl.errors import RunFailed


class FiniteHook(Hook):
    """Ends a fine-tuning run at a loss that is not finite, before a checkpoint or an evaluation of
    weights that are not, and at predictions that are not: a class is found in NaN, too. (A
    pretraining run reads its losses only once a logging interval:
    :class:`densessl.training.log.LogValuesHook`.)"""

    priority = 'VERY_HIGH'      # before the hooks that save or score

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Mapping[str, Any] | None = None) -> None:
        """mmengine's own hook reads the values in every iteration anyway, so this costs nothing.
        """
        for name, value in (outputs or {}).items():
            if 'loss' in name and not math.isfinite(float(value)):
                raise not_finite(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        require_finite_weights(runner.iter + 1, checkpoint.get('state_dict', {}))

    def before_val_epoch(self, runner: Runner) -> None:
        require_finite_weights(runner.iter, runner.model.state_dict())      # counted already

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Iterable[Any] | None = None) -> None:
        if not all(_is_finite(one) for one in outputs or ()):
            raise RunFailed(f'the predictions are not finite after iteration {runner.iter}: '
                            f'{REMEDY}')


def _is_finite(value: Any) -> bool:
    """Whether all numbers of a tensor, or of what is in a data sample, are finite."""
    if isinstance(value, BaseDataElement):
        return all(_is_finite(one) for one in value.values())
    return not (isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(
        value.float() if value.itemsize == 1 else value).all())


def require_finite_weights(done: int, state: Mapping[str, Tensor]) -> None:
    """Raise RunFailed if a tensor of ``state``, after ``done`` iterations, has a value that is NaN
    or infinite: a checkpoint of it would take the place of a good one."""
    broken = first_not_finite(state)
    if broken is not None:
        raise RunFailed(f'the weights ({broken}) are not finite after iteration {done}: {REMEDY}')


def first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The first key whose tensor holds infinities or NaN; None if all are finite."""
    return next((key for key, value in state.items() if not _is_finite(value)), None)


REMEDY = 'lower the learning rate or lengthen the warm-up'


def not_finite(runner: Runner) -> RunFailed:
    """The error of a loss that is not finite."""
    return RunFailed(f'the loss is not finite around iteration {runner.iter + 1}: {REMEDY}')
