"""A pretraining config is checked as a whole before anything is started."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine import Config
from mmengine.device import get_device
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS, Registry

from densessl.config import check_keys
from densessl.data.bounds import shown
from densessl.data.photometric import ViewPreprocessor
from densessl.data.views import view_class_of
from densessl.engine import lars, precision  # noqa: F401  they register what configs name
from densessl.engine.compilation import checked_options
from densessl.errors import UsageError, check_arguments, did_you_mean
from densessl.method import Method
from densessl.registry import METHODS

SECTIONS = ('model', 'normalization', 'schedule', 'optim_wrapper', 'train_dataloader', 'checkpoint')
REQUIRED = (*SECTIONS, 'views', 'epochs', 'global_batch', 'log_interval', 'seed', 'uniforms')
OPTIONAL = ('data', 'masks', 'recipe', 'sync_bn', 'find_unused_parameters', 'channels_last',
            'compile', 'custom_hooks', 'custom_imports', 'visualizer', 'env_cfg', 'work_dir')
# key: the least value, and whether only whole numbers count
NUMBERS = {
    'seed': (0, True), 'uniforms': (1, True), 'log_interval': (1, True), 'epochs': (1, True),
    'global_batch': (1, True), 'train_dataloader.batch_size': (1, True),
    'train_dataloader.num_workers': (0, True), 'checkpoint.every_epochs': (1e-9, False),
    'checkpoint.keep': (1, True), 'optim_wrapper.accumulative_counts': (1, True),
    'schedule.base_lr': (0, False), 'schedule.reference_batch': (1, True),
    'schedule.warmup_epochs': (0, False), 'model.temperature': (1e-9, False)}


def check_config(cfg: Config, config: str) -> type[Method]:
    """Refuse what is missing, unknown or no number where one is needed; return the method's class.

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
    for key in SECTIONS:
        if not isinstance(cfg[key], Mapping):
            raise UsageError(f'{key} must be a dict, not {cfg[key]!r}')
    for key, (least, whole) in NUMBERS.items():
        _check_number(cfg, key, least, whole=whole)
    method = METHODS.get(cfg.model.type)
    check_arguments(method, _but(cfg.model, 'type'), 'model')
    _check_views(cfg, config, method)
    if 'blur_kernel' in cfg.normalization:
        raise UsageError('normalization.blur_kernel is now a key of each view, blur=dict(…, '
                         'kernel=…); left out, it is a tenth of the side of the view, odd')
    check_arguments(ViewPreprocessor, cfg.normalization, 'normalization')
    ViewPreprocessor(**cfg.normalization)
    _check_optimizer(cfg.optim_wrapper)
    checked_options(cfg.get('compile'))
    check_keys('train_dataloader', cfg.train_dataloader, {'batch_size', 'num_workers'})
    check_keys('checkpoint', cfg.checkpoint, {'every_epochs', 'keep'})
    return method


def _check_number(cfg: Config, key: str, least: float, *, whole: bool) -> None:
    section, _, name = key.rpartition('.')
    value = (cfg[section] if section else cfg).get(name)
    if value is None and section:
        return      # the class or the plan has a value of its own
    if not _numbers([value]) or value < least or (whole and value != int(value)):
        bound = 'above 0' if 0 < least < 1 else f'of at least {least}'
        raise UsageError(f'{key} must be a {"whole " if whole else ""}number {bound}, '
                         f'not {value!r}')


def _numbers(values: Any) -> list[float]:
    """``values`` if all of them are numbers, else nothing."""
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []
    right = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in listed)
    return listed if right else []


def _check_views(cfg: Config, config: str, method: type[Method]) -> None:
    if not isinstance(cfg.views, (list, tuple)) or not cfg.views \
            or not all(isinstance(view, Mapping) for view in cfg.views):
        raise UsageError(f'views must be a list of dicts, one a view, not {shown(cfg.views)}')
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


def _check_optimizer(wrapper: Any) -> None:
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
        raise UsageError(f'optim_wrapper.optimizer must be a dict with a type, not {optimizer!r}')
    if 'lr' in optimizer:
        raise UsageError('optim_wrapper.optimizer.lr has no effect: the rate is schedule.base_lr · '
                         'global batch / schedule.reference_batch; set schedule.base_lr')
    optimizer_class = _registered(OPTIMIZERS, optimizer['type'], 'optim_wrapper.optimizer.type')
    check_arguments(optimizer_class, {'lr': 0, 'params': (), **_but(optimizer, 'type')},
                    'optim_wrapper.optimizer')


def _registered(registry: Registry, name: Any, key: str) -> type:
    found = registry.get(name) if isinstance(name, str) else None
    if found is None:
        known = list(registry.module_dict)
        raise UsageError(f'{key} {name!r} is unknown{did_you_mean(name, known)}; '
                         f'known: {", ".join(sorted(known))}')
    return found


def _but(arguments: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in left_out}
