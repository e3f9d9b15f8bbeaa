"""The config of a pretraining run as it will be: with its overrides and its recipe's row, checked.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine import Config
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS

from densessl.bounds import parameters_of
from densessl.config import load_config
from densessl.errors import UsageError
from densessl.method import Method
from densessl.overrides import apply_overrides, settle_types
from densessl.registry import MASK_GENERATORS, METHODS
from densessl.training.config_check import check_config
from densessl.training.plan import SCHEDULE_KEYS, choose_row
from densessl.training.schedules import SCHEDULES

REGISTRIES = {'model': METHODS, 'masks': MASK_GENERATORS, 'optim_wrapper': OPTIM_WRAPPERS,
              'optim_wrapper.optimizer': OPTIMIZERS}


@dataclass(frozen=True)
class Configured:
    """A checked config.

    Attributes:
        notes: what of the published config was left out for an override's sake, a line each.
    """

    cfg: Config
    method: type[Method]
    epochs: int
    notes: tuple[str, ...]


def configure(config: str, options: Mapping[str, Any] | None = None, epochs: int | None = None
              ) -> Configured:
    """Read a pretraining config with overrides, and apply the row of its recipe for ``epochs``;
    what the command line says outweighs the row.

    Raises:
        UsageError: what is wrong first, by its key.
    """
    options = dict(options or {})
    published = load_config(config)
    cfg = load_config(config, options)
    notes = settle_types(cfg, published, options, _arguments_of)
    check_config(cfg, config)
    epochs = choose_row(cfg, epochs)
    apply_overrides(cfg, options)
    notes += settle_types(cfg, published, options, _arguments_of)
    return Configured(cfg, check_config(cfg, config), epochs, tuple(dict.fromkeys(notes)))


def refuse_twice_said(options: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse an override of what an argument of the command says, too.

    Args:
        said: key of the config → the argument's value, None if it was not given.
    """
    for key, value in said.items():
        clash = next((option for option in options if f'{option}.'.startswith(f'{key}.')), None)
        if clash is not None and value is not None and options[clash] != value:
            raise UsageError(f'--cfg-options {clash} and --{key.replace("_", "-")} {value} say '
                             f'different things: leave one of them out')


def _arguments_of(path: str, kind: str) -> set[str] | None:
    if path == 'schedule':
        return _of_schedule(SCHEDULES.get(kind))
    try:
        cls = REGISTRIES[path].get(kind) if path in REGISTRIES else None
    except (UsageError, ImportError, ValueError):      # no such type: the check says so
        return None
    if not isinstance(cls, type):
        return None
    parameters = parameters_of(cls)
    known = set(parameters) - {'self', 'params'}
    return None if '**' in parameters else known | ({'store'} if path == 'masks' else set())


def _of_schedule(schedule: Callable[..., float] | None) -> set[str] | None:
    if schedule is None:
        return None
    return SCHEDULE_KEYS - {'milestones', 'gamma'} | set(inspect.signature(schedule).parameters)
