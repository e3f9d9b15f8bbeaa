"""A downstream config with overrides: read, and refused where it could only fail, or fail late."""
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from mmengine import Config, registry
from mmengine.registry import OPTIMIZERS

from densessl.backbones import target_names
from densessl.bounds import Range, check_value, parameters_of, whole
from densessl.config import load_config
from densessl.dist import print_once
from densessl.errors import UsageError, did_you_mean, refuse_value
from densessl.finetune.schedule import check_warmups, scale_schedule
from densessl.overrides import (
    ArgumentsOf,
    apply_overrides,
    at,
    check_reach,
    class_named,
    settle_types,
)
from densessl.planning.schema import check_wrapper
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.target import TransferTarget

_STEPS = whole(1, 2 ** 31)
_POSITIVE = Annotated[float, Range(above=0)]
# mmengine's −1: never, or any number; its 0 would mean the same without a word
_STEPS_OR_NONE = _STEPS | Literal[-1]
_KINDS: dict[str, Any] = {
    'train_cfg.max_iters': _STEPS, 'train_cfg.max_epochs': whole(1, 10 ** 6),
    'train_cfg.val_interval': _STEPS, 'default_hooks.logger.interval': _STEPS,
    'default_hooks.checkpoint.interval': _STEPS_OR_NONE,
    'default_hooks.checkpoint.max_keep_ckpts': _STEPS_OR_NONE,
    **{f'{split}_dataloader.{key}': kind for split in ('train', 'val') for key, kind in (
        ('batch_size', whole(1, 2 ** 16)), ('num_workers', whole(0, 2 ** 10)),
        ('prefetch_factor', whole(1, 2 ** 10)))},
    'optim_wrapper.optimizer.lr': _POSITIVE,
    'model.data_preprocessor.std': _POSITIVE | Sequence[_POSITIVE]}
_OF_COMMAND = {'work_dir': '--work-dir', 'launcher': '--launcher', 'randomness': '--seed',
               'load_from': '--backbone', 'resume': '--resume'}
_SECTIONS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_LISTS = ('custom_hooks', 'param_scheduler')
_REGISTRIES = ('MODELS', 'DATASETS', 'TRANSFORMS', 'LOOPS', 'HOOKS', 'OPTIMIZERS', 'OPTIM_WRAPPERS',
               'PARAM_SCHEDULERS', 'DATA_SAMPLERS', 'METRICS', 'VISUALIZERS', 'LOG_PROCESSORS')


def read_downstream_config(config: str, options: dict[str, Any] | None = None
                           ) -> tuple[Config, TransferTarget]:
    """Read a downstream config and prepare the target that its ``default_scope`` names."""
    published = load_config(config)
    able = [name for name in target_names() if TRANSFER_TARGETS.get(name).finetunes]
    scope = published.get('default_scope')
    if scope not in able or 'train_cfg' not in published:
        raise UsageError(f'{config} is not a downstream config: its default_scope is {scope!r}, '
                         f'and fine-tuning is known for {", ".join(able) or "no installed target"}')
    target = TRANSFER_TARGETS.get(scope)()
    target.prepare()
    options = options or {}
    cfg = copy.deepcopy(published)
    apply_overrides(cfg, options)
    for line in settle_types(cfg, published, options, arguments_in(published)):
        print_once(f'override: {line}')
    check_values(cfg, published, options)
    scale_schedule(cfg, published, options)
    check_warmups(cfg.get('param_scheduler'), cfg.train_cfg.get('max_iters'),
                  cfg.train_cfg.get('max_epochs'))
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader and loader.get('num_workers') == 0:
            loader.persistent_workers = False   # PyTorch refuses it without workers
    return cfg, target


def arguments_in(published: Config) -> ArgumentsOf:
    """For :func:`densessl.overrides.settle_types`: the arguments of the classes that a downstream
    config names, whose library has been imported."""
    def arguments_of(path: str, kind: str) -> set[str] | None:
        for name in _REGISTRIES:
            cls = _named(kind, getattr(registry, name), published)
            if cls is not None:
                parameters = parameters_of(cls)
                return None if '**' in parameters else set(parameters) - {'self', 'params'}
        return None
    return arguments_of


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
            refuse_value(key, value, 'a section of keys')
        if key.rpartition('.')[2] == 'pipeline' and not (
                isinstance(value, list) and value and all(isinstance(one, dict) for one in value)):
            refuse_value(key, value, 'a list of sections')
        check_reach(key, published)
        name = key.partition('.')[0]
        if name in _OF_COMMAND:
            raise UsageError(f'{name} of the config: the command sets it; add '
                             f'{_OF_COMMAND[name]} to the command instead')
    for name in _SECTIONS:
        if not isinstance(cfg.get(name), Mapping):
            refuse_value(name, cfg.get(name), 'a section of keys')
    for name in _LISTS:
        if not isinstance(cfg.get(name), (list, tuple, Mapping, type(None))):
            refuse_value(name, cfg.get(name), 'a list of sections')
    if cfg.get('resume'):
        raise UsageError('resume of the config: add --resume to the command instead')
    for key, kind in _KINDS.items():
        if (value := at(cfg, key)) is not None:
            check_value(key, value, kind)
    kind = at(cfg, 'optim_wrapper.optimizer.type')      # of an unknown one mmengine says nothing
    if isinstance(kind, str) and _named(kind, OPTIMIZERS, cfg) is None:
        refuse_value('optim_wrapper.optimizer.type', kind, 'the name of an optimizer',
                     did_you_mean(kind, OPTIMIZERS.module_dict))
    if isinstance(cfg.optim_wrapper.get('optimizer'), Mapping):
        check_wrapper(cfg.optim_wrapper)


def _named(kind: str, among: registry.Registry, cfg: Config) -> type | None:
    """The class that a type in a config names among what is registered, if there is one."""
    return class_named(among, kind if '.' in kind else f'{cfg.default_scope}.{kind}')
