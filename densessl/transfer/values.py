"""Values of a downstream config that could only fail, or fail late: found before anything runs."""
from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from mmengine import Config

from densessl.config import runner_keys
from densessl.errors import UsageError

_COUNTS = {'train_cfg.max_iters': 1, 'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1,
           'train_dataloader.batch_size': 1, 'val_dataloader.batch_size': 1,
           'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}
_SECTIONS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_LISTS = ('custom_hooks', 'param_scheduler')


def check_seed(seed: int) -> None:
    """Raise UsageError unless every generator takes ``seed``."""
    if not 0 <= seed < 2 ** 32:
        raise UsageError(f'--seed {seed}: from 0 to {2 ** 32 - 1}')


def check_values(cfg: Config, published: Config, options: Mapping[str, Any]) -> None:
    """Check what is cheap to check of a downstream config.

    Args:
        cfg: the config with overrides.
        published: the same without.
        options: the overrides by dotted key.

    Raises:
        UsageError: a value that is not usable; the message names its key.
    """
    for key, value in options.items():
        if isinstance(_at(published, key), Mapping) and isinstance(value, (str, int, float)):
            _refuse(key, value, 'a section of keys')
        _check_reach(key, published)
    for name in _SECTIONS:
        if not isinstance(cfg.get(name), Mapping):
            _refuse(name, cfg.get(name), 'a section of keys')
    for name in _LISTS:
        if not isinstance(cfg.get(name), (list, tuple, Mapping, type(None))):
            _refuse(name, cfg.get(name), 'a list of sections')
    if cfg.get('resume'):
        raise UsageError('resume of the config: add --resume to the command instead')
    for key, least in _COUNTS.items():
        value = _at(cfg, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)
                                  or value < least):
            _refuse(key, value, f'a whole number from {least} on')
    rate = _at(cfg, 'optim_wrapper.optimizer.lr')
    if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
        _refuse('optim_wrapper.optimizer.lr', rate, 'a number above 0')
    std = _at(cfg, 'model.data_preprocessor.std')
    if std is not None and not all(_is_number(one) and one > 0 for one in (
            std if isinstance(std, (list, tuple)) else [std])):
        _refuse('model.data_preprocessor.std', std, 'numbers above 0, one for each channel')


def _check_reach(key: str, published: Config) -> None:
    """Refuse to override a name of the config file that was put in its places when it was read."""
    name = key.partition('.')[0]
    if name in runner_keys() or not published.get(name):
        return
    place = _place_of(published[name], {key: value for key, value in published.items()
                                        if key in runner_keys()})
    if place:
        raise UsageError(f'--cfg-options {key}: nothing reads {name!r} after the config file has '
                         f'been read; give {place}{key.removeprefix(name)} instead (and wherever '
                         f'else it is)')


def _place_of(value: Any, node: Any) -> str | None:
    """The dotted key of the first part of ``node`` that equals ``value``."""
    named = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, child in named:
        if type(child) is type(value) and child == value:
            return str(key)
        if isinstance(child, (Mapping, list, tuple)):
            found = _place_of(value, child)
            if found:
                return f'{key}.{found}'
    return None


def _refuse(key: str, value: Any, wanted: str) -> None:
    raise UsageError(f'{key} of the config: {wanted}, not {value!r}')


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _at(node: Any, key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for part in key.split('.'):
        if isinstance(node, Mapping) or isinstance(node, Config):
            node = node.get(part)
        elif isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node
