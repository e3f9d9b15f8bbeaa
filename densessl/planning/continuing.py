"""The recipe of continuing: how a run that starts from weights differs from one that starts from
random ones, so that it does not forget what it was given before it has learnt anything.

A config's ``continuing`` is a table: attributes of :class:`Continuing`, and dotted keys of the
config as in a row of its ``recipe``. It is applied with ``--init`` alone, and each line of it is
told with what switches it off.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Annotated, Any

import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densessl.bounds import Range, Share, check_values
from densessl.engine.stop import micro_batches
from densessl.errors import UsageError, check_keys, shown
from densessl.method import TARGET, Method
from densessl.overrides import apply_row
from densessl.planning.backbone_parts import parameters_by_stage

TABLE = 'continuing'
BACKBONE = 'backbone'
FORBIDDEN = (TABLE, 'recipe', 'init', 'init_as', 'init_from', 'init_heads')


@dataclass(frozen=True)
class Continuing:
    """How the loaded weights are trained.

    Attributes:
        heads_first: share of the steps in which all that was loaded stays as it is and the heads
            alone are trained.
        layer_decay: the rate of a stage is that of the next times this, from the heads down.
        rate: factor of the base rate.
        freeze: how many stages stay as loaded, besides the stem; None: all is trained.
        follow_norms: whether the statistics of the backbone's batch norms follow the new images
            from the first step on, or stay as loaded.
    """

    heads_first: Share = 0.0
    layer_decay: Annotated[float, Range(above=0, most=1)] = 1.0
    rate: Annotated[float, Range(above=0, most=10 ** 6)] = 1.0
    freeze: Annotated[int, Range(0)] | None = None
    follow_norms: bool = True

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Continuing:
        """What the table of a config says; everything is off where it has none."""
        table = cfg.get(TABLE) or {}
        return cls(**{key: value for key, value in table.items() if key in OFF})


OFF = asdict(Continuing())


def check_continuing(cfg: Mapping[str, Any]) -> None:
    """Check the keys of the table and the values of those that are not the config's.

    Raises:
        UsageError: an unknown key, or a value that is not allowed.
    """
    table = cfg.get(TABLE) or {}
    for key in table:
        if not isinstance(key, str) or key.split('.')[0] in FORBIDDEN:
            raise UsageError(f'{TABLE}: {shown(key)} cannot stand there; it takes '
                             f'{", ".join(OFF)}, and dotted keys of the config')
    check_keys(TABLE, (key for key in table if '.' not in key), OFF)
    check_values(Continuing, table, f'{TABLE}.')


def apply_continuing(cfg: Config) -> None:
    """Put the table's dotted keys and its factor of the base rate into the config."""
    apply_row(cfg, TABLE, {key: value for key, value in (cfg.get(TABLE) or {}).items()
                           if '.' in key})
    cfg.schedule.base_lr *= Continuing.of(cfg).rate


def about_continuing(cfg: Config, steps: int) -> list[str]:
    """What the user is told of the recipe of continuing, and how each line is switched off."""
    how, table = Continuing.of(cfg), cfg.get(TABLE)
    if not table:
        return ['the config has no recipe for it (continuing): all is trained at the full rate']
    lines = [f'{key}: {value} (an override of {key} outweighs it)'
             for key, value in table.items() if '.' in key]
    off = {key: f'{TABLE}.{key}={OFF[key]}' for key in OFF}
    if how.rate != 1:
        lines.append(f'base rate: × {how.rate:g} ({off["rate"]} leaves it)')
    if how.layer_decay != 1:
        lines.append(f'rates: each stage’s × {how.layer_decay:g} of the next one’s, from the heads '
                     f'down ({off["layer_decay"]} makes them equal)')
    if waiting := round(how.heads_first * steps):
        lines.append(f'heads alone: in the first {waiting} of {steps} steps '
                     f'({off["heads_first"]} trains all from the start)')
    if how.freeze is not None:
        last = {0: '', 1: ' and stage 1'}.get(how.freeze, f' and stages 1–{how.freeze}')
        lines.append(f'frozen: the stem{last} ({off["freeze"]} trains all)')
    lines.append('batch norms: statistics ' + (
        f'follow the new images ({TABLE}.follow_norms=False keeps those of the weights)'
        if how.follow_norms else f'stay as loaded ({off["follow_norms"]} lets them follow)'))
    return lines


def freeze(method: Method, how: Continuing) -> None:
    """Take the gradients from the stages that stay as loaded. Called before the optimizer and the
    wrapper for several processes look at them.

    Raises:
        UsageError: the backbone has fewer stages.
    """
    if how.freeze is None:
        return
    stages = len(parameters_by_stage(method.backbone)) - 1
    if how.freeze > stages:
        raise UsageError(f'--freeze {how.freeze}: the backbone has {stages} stages; give 0 (the '
                         f'stem alone) to {stages}')
    for name in _frozen(method, how):
        method.backbone.get_parameter(name).requires_grad_(False)


def scale_rates(wrapper: OptimWrapper, method: Method, how: Continuing) -> None:
    """Split an optimizer's groups so that each stage has its rate, heads first. A group of the
    backbone is marked, so that :class:`ContinuingHook` finds it."""
    groups = parameters_by_stage(method.backbone)
    factors = {method.backbone.get_parameter(name): how.layer_decay ** (len(groups) - i)
               for i, names in enumerate(groups) for name in names}
    optimizer, split = wrapper.optimizer, []
    for group in optimizer.param_groups:
        parts: dict[float | None, list[nn.Parameter]] = {}
        for parameter in group['params']:
            parts.setdefault(factors.get(parameter), []).append(parameter)
        for factor, parameters in parts.items():
            split.append({**group, 'params': parameters, BACKBONE: factor is not None,
                          'lr': group['lr'] * (1.0 if factor is None else factor)})
    split.sort(key=lambda group: (group[BACKBONE], -group['lr']))     # the first one's is logged
    optimizer.param_groups[:] = split
    if len(split) > 1 and wrapper.base_param_settings is None:
        wrapper.base_param_settings = {'params': torch.tensor([0.0]), **optimizer.defaults}


class ContinuingHook(Hook):
    """Before each iteration: nothing of the backbone moves while the heads are trained alone, and
    batch norms that keep their statistics are in evaluation mode.

    Args:
        how: the recipe. steps: number of steps of the run.
    """

    priority = 'HIGH'       # after the rate of the step is set

    def __init__(self, how: Continuing, steps: int) -> None:
        self.how, self.waiting = how, round(how.heads_first * steps)
        self.kept: list[nn.Module] = []

    def before_train(self, runner: Runner) -> None:
        method = getattr(runner.model, 'module', runner.model)
        self.kept = _kept_norms(method, self.how)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        for norm in self.kept:
            norm.eval()
        if runner.iter // micro_batches(runner) < self.waiting:
            for group in runner.optim_wrapper.optimizer.param_groups:
                if group[BACKBONE]:
                    group['lr'] = 0.0


def _frozen(method: Method, how: Continuing) -> list[str]:
    groups = parameters_by_stage(method.backbone)
    return list(chain(*groups[:0 if how.freeze is None else how.freeze + 1]))


def _kept_norms(method: Method, how: Continuing) -> list[nn.Module]:
    """The batch norms, of the backbone and of target networks like it, whose statistics stay."""
    frozen = _frozen(method, how)
    names = [name for name, module in method.backbone.named_modules()
             if isinstance(module, _BatchNorm)
             and (not how.follow_norms or f'{name}.weight' in frozen)]
    kept = {f'{part}{BACKBONE}.{name}' for part in ('', TARGET) for name in names}
    return [module for name, module in method.named_modules(remove_duplicate=False) if name in kept]
