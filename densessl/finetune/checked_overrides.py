"""Values of a downstream config that could only fail, or fail late: found before anything runs."""
from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from mmengine import Config
from mmengine.registry import OPTIMIZERS

from densessl.errors import UsageError, did_you_mean
from densessl.overrides import at, runner_keys
from densessl.training.schema import check_wrapper

_COUNTS = {'train_cfg.max_iters': (1, 2 ** 31), 'train_cfg.max_epochs': (1, 10 ** 6),
           'train_cfg.val_interval': (1, 2 ** 31), 'train_dataloader.batch_size': (1, 2 ** 16),
           'val_dataloader.batch_size': (1, 2 ** 16), 'train_dataloader.num_workers': (0, 2 ** 10),
           'val_dataloader.num_workers': (0, 2 ** 10),
           'train_dataloader.prefetch_factor': (1, 2 ** 10),
           'val_dataloader.prefetch_factor': (1, 2 ** 10),
           'default_hooks.logger.interval': (1, 2 ** 31)}
# mmengine's −1: never, or any number; its 0 would mean the same without a word
_COUNTS_OR_NONE = ('default_hooks.checkpoint.interval', 'default_hooks.checkpoint.max_keep_ckpts')
_OF_COMMAND = {'work_dir': '--work-dir', 'launcher': '--launcher', 'randomness': '--seed',
               'load_from': '--backbone', 'resume': '--resume'}
_SECTIONS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_LISTS = ('custom_hooks', 'param_scheduler')


def check_seed(seed: int) -> None:
    """Raise UsageError unless every generator takes ``seed``."""
    if not (_is_whole(seed) and 0 <= seed < 2 ** 32):
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
        if isinstance(at(published, key), Mapping) and isinstance(value, (str, int, float)):
            _refuse(key, value, 'a section of keys')
        if key.rpartition('.')[2] == 'pipeline' and not (
                isinstance(value, list) and value and all(isinstance(one, dict) for one in value)):
            _refuse(key, value, 'a list of sections')
        _check_reach(key, published)
        name = key.partition('.')[0]
        if name in _OF_COMMAND:
            raise UsageError(f'{name} of the config: the command sets it; add '
                             f'{_OF_COMMAND[name]} to the command instead')
    for name in _SECTIONS:
        if not isinstance(cfg.get(name), Mapping):
            _refuse(name, cfg.get(name), 'a section of keys')
    for name in _LISTS:
        if not isinstance(cfg.get(name), (list, tuple, Mapping, type(None))):
            _refuse(name, cfg.get(name), 'a list of sections')
    if cfg.get('resume'):
        raise UsageError('resume of the config: add --resume to the command instead')
    for key, (least, most) in _COUNTS.items():
        value = at(cfg, key)
        if value is not None and not (_is_whole(value) and value >= least):
            _refuse(key, value, f'a whole number from {least} on')
        if value is not None and value > most:
            _refuse(key, value, f'a whole number up to {most}')
    for key in _COUNTS_OR_NONE:
        value = at(cfg, key)
        if value is not None and not (_is_whole(value) and (value >= 1 or value == -1)):
            _refuse(key, value, 'a whole number from 1 on, or -1 for none')
    rate = at(cfg, 'optim_wrapper.optimizer.lr')
    if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
        _refuse('optim_wrapper.optimizer.lr', rate, 'a number above 0')
    kind = at(cfg, 'optim_wrapper.optimizer.type')      # of an unknown one mmengine says nothing
    if isinstance(kind, str) and not _is_optimizer(
            kind if '.' in kind else f'{cfg.default_scope}.{kind}'):
        _refuse('optim_wrapper.optimizer.type', kind, 'the name of an optimizer'
                + did_you_mean(kind, OPTIMIZERS.module_dict))
    if isinstance(cfg.optim_wrapper.get('optimizer'), Mapping):
        check_wrapper(cfg.optim_wrapper)
    std = at(cfg, 'model.data_preprocessor.std')
    if std is not None and not all(_is_number(one) and one > 0 for one in (
            std if isinstance(std, (list, tuple)) else [std])):
        _refuse('model.data_preprocessor.std', std, 'numbers above 0, one for each channel')


def _is_optimizer(name: str) -> bool:
    try:
        return OPTIMIZERS.get(name) is not None
    except (ImportError, RuntimeError, ValueError):     # a name that leads nowhere
        return False


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


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
