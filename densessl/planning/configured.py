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
from densessl.export.start import Start
from densessl.method import Method
from densessl.overrides import apply_overrides, class_named, replaced_overrides, settle_types
from densessl.planning.config_check import check_config
from densessl.planning.continuing import TABLE, about_continuing, apply_continuing
from densessl.planning.decisive_settings import changes, settings_of
from densessl.planning.learning_rate import SCHEDULES
from densessl.planning.plan import choose_row
from densessl.planning.schema import SECTIONS
from densessl.planning.start import check_start, follow
from densessl.registry import MASK_GENERATORS, METHODS

REGISTRIES = {'model': METHODS, 'masks': MASK_GENERATORS, 'optim_wrapper': OPTIM_WRAPPERS,
              'optim_wrapper.optimizer': OPTIMIZERS}

FLAGS = {'init_as': 'as', 'init_from': 'from', f'{TABLE}.freeze': 'freeze',
         'probe.data': 'probe'}     # named otherwise


@dataclass(frozen=True)
class Configured:
    """A checked config.

    Attributes:
        config: its path or name. options: the user's overrides by dotted key.
        published: without overrides, with the row of its recipe for as many epochs.
        notes: what of the published config was left out for an override's sake, a line each.
        start: weights to start from, if those are not random.
        followed: what of the config follows them, a line each.
    """

    config: str
    options: Mapping[str, Any]
    cfg: Config
    published: Config
    method: type[Method]
    epochs: float
    notes: tuple[str, ...]
    start: Start | None = None
    followed: tuple[str, ...] = ()

    def about_overrides(self) -> list[str]:
        """What the user is told of overrides that something else took the place of."""
        open_ones = {key: value for key, value in self.options.items()
                     if not (self.start and key == 'model.backbone' and value is None)}
        return [f'override: {line}' for line in
                (*self.notes, *replaced_overrides(self.cfg, open_ones))]

    def differences(self) -> list[str]:
        """The settings that differ from the published ones, a line each."""
        return [f'{key} {new} instead of {old}' for key, old, new in
                changes(settings_of(self.published), settings_of(self.cfg))]

    def about_start(self, steps: int) -> list[str]:
        """What the user is told of the weights to start from, and of the recipe for them."""
        if self.start is None:
            return []
        return [*(f'start: {line}' for line in (*self.start.lines, *self.followed)),
                *(f'continuing: {line}' for line in about_continuing(self.cfg, steps))]


def configure(config: str, options: Mapping[str, Any] | None = None, epochs: float | None = None,
              said: Mapping[str, Any] | None = None,
              start_of: Callable[[Config], Start | None] = lambda cfg: None) -> Configured:
    """Read a pretraining config with overrides, and apply the row of its recipe for ``epochs``;
    what the command line says outweighs the row. It follows the weights to start from, which must
    be of its network.

    Args:
        said: keys of the config that the command line has arguments for.
        start_of: finds the weights that a config names.

    Raises:
        UsageError: what is wrong first, by its key.
    """
    options = dict(options or {})
    published = load_config(config)
    cfg = load_config(config, options)
    cfg.merge_from_dict(dict(said or {}))
    start = start_of(cfg)
    if start is None:
        if f'{TABLE}.freeze' in (said or {}):
            raise UsageError('--freeze is for stages that are loaded: give the weights with --init')
        cfg.pop(TABLE, None)
    followed = follow(cfg, start, options) if start else []
    notes = settle_types(cfg, published, options, _arguments_of)
    check_config(cfg, config)
    epochs = choose_row(cfg, epochs)
    if start:
        apply_continuing(cfg)
    apply_overrides(cfg, {key: value for key, value in options.items()
                          if start or not key.startswith(f'{TABLE}.')})
    if start:       # what the overrides say was found to agree with it
        follow(cfg, start, options)
    notes += settle_types(cfg, published, options, _arguments_of)
    method = check_config(cfg, config)
    if start:
        check_start(start, cfg)
    choose_row(published, epochs)
    return Configured(config, options, cfg, published, method, epochs,
                      tuple(dict.fromkeys(notes)), start, tuple(followed))


def refuse_twice_said(options: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse an override of what an argument of the command says as well.

    Args:
        said: key of the config → the argument's value, None if it was not given.
    """
    for key, value in said.items():
        clash = next((option for option in options if f'{option}.'.startswith(f'{key}.')), None)
        if clash is not None and value is not None and options[clash] != value:
            flag = FLAGS.get(key, key.replace('_', '-'))
            raise UsageError(f'--cfg-options {clash} and --{flag} {value} contradict each '
                             f'other: leave one of them out')


def _arguments_of(path: str, kind: str) -> set[str] | None:
    if path == 'schedule' and kind in SCHEDULES:
        every = set(SECTIONS['schedule']) - {'milestones', 'gamma'}
        return every | set(inspect.signature(SCHEDULES[kind]).parameters)
    cls = class_named(REGISTRIES[path], kind) if path in REGISTRIES else None
    if cls is None:     # no such type: the check says so
        return None
    parameters = parameters_of(cls)
    known = set(parameters) - {'self', 'params'}
    return None if '**' in parameters else known | ({'store'} if path == 'masks' else set())
