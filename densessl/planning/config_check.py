"""A pretraining config is checked as a whole before anything is started."""
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine import Config, ConfigDict
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS, Registry
from torch import nn

from densessl.bounds import TypeName, check_section, check_value, check_values
from densessl.devices.compilation import checked_options
from densessl.environment import building
from densessl.errors import (
    UsageError,
    check_arguments,
    check_keys,
    did_you_mean,
    refuse_value,
    shown,
)
from densessl.method import Method
from densessl.overrides import class_named, items_of
from densessl.pixels.pixel_rule import PixelRule
from densessl.planning import optimizers  # noqa: F401  it registers what configs name
from densessl.planning.continuing import check_continuing
from densessl.planning.schema import (
    NEEDED,
    OPTIONAL,
    REQUIRED,
    SECTIONS,
    WRAPPER,
    check_wrapper,
)
from densessl.registry import MASK_GENERATORS, METHODS
from densessl.views.photometry import ViewPreprocessor
from densessl.views.view import view_class_of
from densessl.watch.labelled import read_settings


def check_config(cfg: Config, config: str) -> type[Method]:
    """Refuse what is missing, unknown or of the wrong type; return the method's class.

    Raises:
        UsageError: the first thing that is wrong, by its key.
    """
    if 'default_scope' in cfg and 'train_cfg' in cfg:
        raise UsageError(f'{config} is a downstream config: densessl finetune trains it, from a '
                         f'pretrained backbone; this takes a pretraining config')
    check_keys(config, (key for key in cfg if not key.startswith('_')), {*REQUIRED, *OPTIONAL})
    missing = [key for key in REQUIRED if key not in cfg]
    if missing or 'type' not in (cfg.model if isinstance(cfg.model, Mapping) else {}):
        raise UsageError(f'{config} is not a pretraining config: it has no '
                         f'{", ".join(missing) or "model.type"}')
    check_section('', cfg, {**REQUIRED, **OPTIONAL})
    PixelRule.of(cfg)
    _refuse_code(cfg, '')
    check_continuing(cfg)
    for name, kinds in SECTIONS.items():
        check_keys(name, cfg[name], kinds)
        check_section(f'{name}.', cfg[name], kinds)
        for key in NEEDED[name]:
            if key not in cfg[name]:
                raise UsageError(f'{name} of {config} must say {key}')
    method = _method(cfg.model)
    _check_views(cfg, config, method)
    if cfg.get('masks'):
        _check_masks(cfg.masks)
    if 'blur_kernel' in cfg.normalization:
        raise UsageError('normalization.blur_kernel is now a key of each view, blur=dict(…, '
                         'kernel=…); left out, it is a tenth of the side of the view, odd')
    if 'cudnn_benchmark' in cfg.get('env_cfg', {}):
        raise UsageError('env_cfg.cudnn_benchmark has no effect: it is a key of its own, '
                         'cudnn_benchmark')
    check_arguments(ViewPreprocessor, cfg.normalization, 'normalization')
    ViewPreprocessor(**cfg.normalization)
    _check_optimizer(cfg.optim_wrapper)
    read_settings(cfg.get('probe'))
    if checked_options(cfg.get('compile')) is not None and cfg.get('gradient_checkpointing'):
        raise UsageError('gradient_checkpointing and compile do not go together: leave one out')
    return method


def _refuse_code(node: Any, path: str) -> None:
    """A run writes its config down; a function or class has no such form."""
    for key, value in items_of(node):
        where = f'{path}.{key}' if path else str(key)
        if callable(value) and not isinstance(value, Mapping):
            refuse_value(where, value, 'a plain value or a name')
        _refuse_code(value, where)


def _method(model: Mapping[str, Any]) -> type[Method]:
    check_value('model.type', model['type'], TypeName)
    if 'backbone' in model and model['backbone'] is None:
        raise UsageError("model.backbone is None: name a network, dict(type='TARGET.name'), or "
                         "give weights to start from (--init), whose network it then is")
    method = _provided(METHODS, model['type'], 'model.type')
    check_arguments(method, _but(model, 'type'), 'model')
    check_values(method, _but(model, 'type'), 'model.')
    return method


def _provided(registry: Registry, name: str, key: str) -> type:
    """What a plugin provides under ``name``."""
    try:
        return registry.get(name)
    except UsageError as error:
        raise UsageError(f'{key}: {error}') from error


def _check_masks(masks: Mapping[str, Any]) -> None:
    check_section('masks.', masks, {'type': TypeName, 'store': str})
    parameters = _but(masks, 'type', 'store')
    if 'type' in masks:
        generator = _provided(MASK_GENERATORS, masks['type'], 'masks.type')
        check_arguments(generator, parameters, f'mask generator {masks["type"]!r}')
        check_values(generator, parameters, 'masks.')
    elif parameters or not masks:
        raise UsageError("masks must say how they are made, dict(type='NAME', …), or where they "
                         "are, dict(store='FOLDER')")


def _check_views(cfg: Config, config: str, method: type[Method]) -> None:
    if not cfg.views:
        refuse_value('views', cfg.views, 'a list, each a dict')
    if method.views not in (None, len(cfg.views)):
        raise UsageError(f'{config}: {cfg.model.type} takes {method.views} views, '
                         f'not {len(cfg.views)}')
    view_class = view_class_of(method)
    for i, view in enumerate(cfg.views):
        check_arguments(view_class, view, f'views[{i}]')
        try:
            view_class(**view)
        except (UsageError, TypeError, KeyError) as error:
            raise UsageError(f'views[{i}]: {error}') from error


def _check_optimizer(wrapper: Mapping[str, Any]) -> None:
    check_section('optim_wrapper.', wrapper, _but(WRAPPER, 'optimizer'))
    kind = wrapper.get('type', 'OptimWrapper')
    wrapper_class = _registered(OPTIM_WRAPPERS, kind, 'optim_wrapper.type')
    if 'constructor' in wrapper:
        _registered(OPTIM_WRAPPER_CONSTRUCTORS, wrapper.constructor, 'optim_wrapper.constructor')
    if kind == 'AmpOptimWrapper' and get_device() != 'cuda':
        raise UsageError('optim_wrapper.type AmpOptimWrapper needs a GPU; BFloat16OptimWrapper '
                         'runs on CPUs, too')
    if kind != 'AmpOptimWrapper':   # which hides its arguments behind **kwargs
        check_arguments(wrapper_class, _but(wrapper, 'type', 'constructor', 'paramwise_cfg'),
                        'optim_wrapper')
    optimizer = wrapper.get('optimizer')
    if not isinstance(optimizer, Mapping) or 'type' not in optimizer:
        refuse_value('optim_wrapper.optimizer', optimizer, 'a dict with a type')
    if 'lr' in optimizer:
        raise UsageError('optim_wrapper.optimizer.lr has no effect: the rate is schedule.base_lr · '
                         'global batch / schedule.reference_batch; set schedule.base_lr')
    check_value('optim_wrapper.optimizer.type', optimizer['type'], TypeName)
    optimizer_class = _registered(OPTIMIZERS, optimizer['type'], 'optim_wrapper.optimizer.type')
    check_arguments(optimizer_class, {'lr': 0, 'params': (), **_but(optimizer, 'type')},
                    'optim_wrapper.optimizer')
    check_wrapper(wrapper)
    check_values(optimizer_class, _but(optimizer, 'type'), 'optim_wrapper.optimizer.')
    _try_optimizer(wrapper)


def _try_optimizer(wrapper: Mapping[str, Any]) -> None:
    """Take a step on a few weights, which shows what the library refuses or cannot compute."""
    trial = {**copy.deepcopy(_but(wrapper, 'accumulative_counts')), 'type': 'OptimWrapper'}
    trial = {key: value for key, value in trial.items() if key in WRAPPER}
    trial['optimizer'] = {**trial['optimizer'], 'lr': 0.1}
    with building('optim_wrapper'), torch.random.fork_rng([]), torch.enable_grad():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(get_device())
        output = model(torch.tensor([[0.0, 1.0], [1.0, 3.0]], device=get_device()))
        build_optim_wrapper(model, ConfigDict(trial)).update_params(output.square().sum())
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            raise ValueError('a step with these values makes weights that are not finite')


def _registered(registry: Registry, name: Any, key: str) -> type:
    found = class_named(registry, name)
    if found is None:
        known = list(registry.module_dict)
        raise UsageError(f'{key} {shown(name)} is unknown{did_you_mean(name, known)}; '
                         f'known: {", ".join(sorted(known))}')
    return found


def _but(arguments: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in left_out}
