"""Pretraining, from a config to a checkpoint."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size, init_dist
from mmengine.registry import OPTIMIZERS
from torch import distributed

from densessl import __version__
from densessl.config import check_keys, load_config
from densessl.data.images import ImageList, find_images
from densessl.data.labels import class_labels
from densessl.data.loader import ViewDataset, build_loader
from densessl.data.masks import MaskStore, store_for_training
from densessl.data.views import view_class_of
from densessl.engine import lars, precision  # noqa: F401  they register what configs name
from densessl.engine.health import CollapseHook
from densessl.engine.hooks import Interrupted, StepHook, StopHook
from densessl.engine.log import LogValuesHook, WaitingLogProcessor
from densessl.engine.loop import PretrainLoop
from densessl.engine.plan import Plan, choose_row, make_plan
from densessl.engine.runner import PretrainRunner, newest_checkpoint
from densessl.errors import UsageError, check_arguments, did_you_mean
from densessl.method import Method
from densessl.registry import METHODS

KEYS = {
    'data', 'masks', 'views', 'uniforms', 'normalization', 'model', 'epochs', 'global_batch',
    'schedule', 'optim_wrapper', 'recipe', 'train_dataloader', 'checkpoint', 'log_interval', 'seed',
    'sync_bn', 'find_unused_parameters', 'channels_last', 'compile', 'custom_hooks',
    'custom_imports', 'visualizer', 'env_cfg', 'default_scope', 'work_dir',
}


def train(config: str, *, data: str | None = None, masks: str | None = None,
          work_dir: str | None = None, resume: bool = False, epochs: int | None = None,
          options: dict[str, Any] | None = None, launcher: str = 'none',
          allow_smaller_negatives: bool = False) -> Path:
    """Pretrain a backbone.

    Args:
        config: path or name of a pretraining config.
        data: folder of images, text file of paths or COCO JSON; the config's ``data`` if None.
        masks: a mask store to use; if None the config's, or one is made in the cache.
        work_dir: where checkpoints and logs go; ``work_dirs/<config>`` if None.
        resume: go on from the newest checkpoint in ``work_dir``.
        epochs: how long, in passes over the images; chooses the row of the config's recipe.
        options: overrides by dotted key.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        allow_smaller_negatives: accept gradient accumulation although negatives and batch
            statistics come from single iterations.

    Returns:
        The final checkpoint.

    Raises:
        UsageError: wrong config, data, masks or work folder.
        Interrupted: a signal stopped the run; its checkpoint is saved.
    """
    cfg = load_config(config, options)
    method = check_config(cfg, config)
    epochs = choose_row(cfg, epochs)
    if options:
        cfg.merge_from_dict(options)   # what the command line says outweighs the recipe's row
    folder = Path(work_dir or cfg.get('work_dir') or f'work_dirs/{Path(config).stem}')
    _refuse_overwriting(folder, resume)
    rank, processes = start_processes(launcher)
    try:
        images = _images(data or cfg.get('data'), config)
        store, images = _masks(cfg, method, images, masks, is_builder=rank == 0)
        plan = make_plan(cfg, epochs=epochs, images=len(images), processes=processes)
        _refuse_accumulation(plan, allow_smaller_negatives)
        labels = class_labels(images) if method.needs_labels else None
        if labels is not None:
            cfg.model.num_classes = int(labels.max()) + 1
        dataset = dataset_of(cfg, images, store, labels)
        runner = build_runner(cfg, config, plan, dataset, folder, launcher, resume)
        _announce(runner, cfg, plan, images, store)
        runner.train()
        checkpoint = folder / f'iter_{plan.steps * plan.accumulate}.pth'
        runner.logger.info(f'done: {checkpoint}; next: densessl export {checkpoint}')
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    return checkpoint


def check_config(cfg: Config, config: str) -> type[Method]:
    """Refuse unknown keys and arguments before anything is started; return the method's class."""
    check_keys(config, (key for key in cfg if not key.startswith('_')), KEYS)
    if 'model' not in cfg or 'type' not in cfg.model:
        raise UsageError(f'{config} is not a pretraining config: it has no model.type')
    method = METHODS.get(cfg.model.type)
    check_arguments(method, _but_type(cfg.model), 'model')
    if method.views not in (None, len(cfg.views)):
        raise UsageError(f'{config}: {cfg.model.type} takes {method.views} views, '
                         f'not {len(cfg.views)}')
    for i, view in enumerate(cfg.views):
        check_arguments(view_class_of(method), view, f'views[{i}]')
    optimizer = cfg.optim_wrapper.optimizer
    if OPTIMIZERS.get(optimizer.type) is None:
        raise UsageError(f'unknown optimizer {optimizer.type!r}'
                         f'{did_you_mean(optimizer.type, OPTIMIZERS.module_dict)}')
    check_arguments(OPTIMIZERS.get(optimizer.type), {'lr': 0, 'params': (), **_but_type(optimizer)},
                    'optim_wrapper.optimizer')
    if cfg.optim_wrapper.type == 'AmpOptimWrapper' and get_device() != 'cuda':
        raise UsageError('optim_wrapper.type AmpOptimWrapper needs a GPU; BFloat16OptimWrapper '
                         'runs on CPUs, too')
    check_keys('train_dataloader', cfg.train_dataloader, {'batch_size', 'num_workers'})
    check_keys('checkpoint', cfg.checkpoint, {'every_epochs', 'keep'})
    return method


def _but_type(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key != 'type'}


def _refuse_overwriting(folder: Path, resume: bool) -> None:
    newest = newest_checkpoint(folder)
    if newest and not resume:
        raise UsageError(f'{folder} already holds a run ({newest.name}): add --resume to go on, '
                         f'or choose another --work-dir')


def _refuse_accumulation(plan: Plan, allowed: bool) -> None:
    """Accumulated gradients are not those of the bigger batch: negatives and batch statistics
    still come from one iteration."""
    if plan.accumulate > 1 and not allowed:
        raise UsageError(
            f'accumulative_counts {plan.accumulate}: an anchor would meet the negatives, and batch '
            f'norm the statistics, of {plan.global_batch // plan.accumulate} images, not of '
            f'{plan.global_batch}; use more processes, or accept it with '
            f'--allow-smaller-negatives')


def _images(data: str | None, config: str) -> ImageList:
    if not data or not Path(data).exists():
        raise UsageError(f'{config}: no images at {data!r}: give any folder of images (or a text '
                         f'file of paths, or a COCO JSON) with --data DIR')
    return find_images(data)


def start_processes(launcher: str) -> tuple[int, int]:
    """Initialize the process group of a launcher; return (rank, number of processes)."""
    if launcher == 'none':
        return 0, 1
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UsageError('--launcher pytorch needs torchrun: torchrun --nproc_per_node N '
                         'tools/train.py CONFIG --launcher pytorch')
    if get_device() == 'cuda':
        init_dist(launcher, backend='nccl')
    elif launcher == 'pytorch':   # mmengine's would set a CUDA device
        distributed.init_process_group('gloo')
    else:
        raise UsageError(f'--launcher {launcher} needs GPUs; on CPUs use torchrun and '
                         f'--launcher pytorch')
    return distributed.get_rank(), distributed.get_world_size()


def _masks(cfg: Config, method: type[Method], images: ImageList, masks: str | None,
           *, is_builder: bool) -> tuple[MaskStore | None, ImageList]:
    if not method.needs_masks:
        return None, images
    if masks:
        return store_for_training(images, {'store': masks}, is_builder=is_builder)
    if not cfg.get('masks'):
        raise UsageError(f'{cfg.model.type} needs region masks: give masks = dict(type=…) in the '
                         f'config, or --masks DIR')
    return store_for_training(images, cfg.masks.to_dict(), is_builder=is_builder)


def dataset_of(cfg: Config, images: ImageList, store: Any, labels: Any = None) -> ViewDataset:
    """The samples that a run with ``cfg`` sees; ``store`` gives the masks, if there are any."""
    view_class = view_class_of(METHODS.get(cfg.model.type))
    return ViewDataset(images, store, [view_class(**view) for view in cfg.views],
                       seed=cfg.seed, uniforms=cfg.uniforms, labels=labels)


def build_runner(cfg: Config, config: str, plan: Plan, dataset: ViewDataset, folder: Path,
                 launcher: str, resume: bool) -> PretrainRunner:
    """Turn our config's words into the arguments of mmengine's Runner."""
    on_gpu = get_device() == 'cuda'
    loader = build_loader(dataset, batch_size=plan.batch_size, rank=get_rank(),
                          world_size=get_world_size(), pin_memory=on_gpu,
                          num_workers=cfg.train_dataloader.num_workers)
    model = {**cfg.model.to_dict(), 'type': f'densessl.{cfg.model.type}'}
    model['data_preprocessor'] = dict(type='densessl.ViewPreprocessor', **cfg.normalization)
    optim_wrapper = cfg.optim_wrapper.to_dict()
    optim_wrapper['optimizer']['lr'] = plan.lr
    every = max(1, round(cfg.checkpoint.every_epochs * plan.steps / plan.epochs)) * plan.accumulate
    hooks = dict(
        runtime_info=LogValuesHook(cfg.log_interval, plan.batch_size),
        logger=dict(type='LoggerHook', interval=cfg.log_interval, log_metric_by_epoch=False),
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=every,
                        max_keep_ckpts=cfg.checkpoint.keep, save_last=True),
        timer=None, sampler_seed=None, param_scheduler=None)
    return PretrainRunner(
        model=model, work_dir=str(folder), train_dataloader=loader, optim_wrapper=optim_wrapper,
        train_cfg=dict(type=PretrainLoop, max_iters=plan.steps * plan.accumulate),
        default_hooks=hooks, resume=resume, launcher=launcher, default_scope='mmengine',
        custom_hooks=[StepHook(plan.factor, cfg.seed, plan.steps),
                      CollapseHook(cfg.log_interval), StopHook(),
                      *cfg.get('custom_hooks', [])],
        log_processor=WaitingLogProcessor(cfg.train_dataloader.num_workers),
        visualizer=cfg.get('visualizer'), env_cfg=cfg.get('env_cfg', dict()),
        randomness=dict(seed=cfg.seed), experiment_name=folder.name, cfg=cfg,
        provenance=_provenance(cfg, config, plan, dataset),
        identity=dict(method=cfg.model.type, global_batch=plan.global_batch, steps=plan.steps,
                      images=len(dataset), seed=cfg.seed))


def _provenance(cfg: Config, config: str, plan: Plan, dataset: ViewDataset) -> dict[str, Any]:
    return {'densessl': __version__, 'method': cfg.model.type, 'config': Path(config).stem,
            'backbone': cfg.model.backbone.to_dict(), 'mean': list(cfg.normalization.mean),
            'std': list(cfg.normalization.std), 'channel_order': 'RGB',
            'data': dataset.images.root.name, 'images': len(dataset), 'epochs': plan.epochs,
            'steps': plan.steps, 'global_batch': plan.global_batch, 'seed': cfg.seed,
            'masks': dataset.store.info.get('generator') if dataset.store else None,
            'torch': str(torch.__version__)}


def _announce(runner: PretrainRunner, cfg: Config, plan: Plan, images: ImageList,
              store: MaskStore | None) -> None:
    parameters = sum(p.numel() for p in runner.model.parameters() if p.requires_grad)
    log = runner.logger.info
    log(f'{cfg.model.type}: {cfg.model.backbone.type}, {parameters / 1e6:.1f} M trained '
        f'parameters, on {get_device()}')
    log(f'{len(images)} images of {images.root}'
        + (f', masks of {store.root}' if store else ''))
    number = getattr(runner.model, 'module', runner.model).negatives(
        plan.global_batch // plan.accumulate)
    negatives = '' if number is None else f'{number} negatives an anchor, '
    accumulated = f', {plan.accumulate} iterations an update' if plan.accumulate > 1 else ''
    log(f'{plan.epochs} epochs = {plan.steps} steps of {plan.global_batch} images '
        f'({plan.batch_size} a process{accumulated}), {negatives}'
        f'learning rate {plan.lr:g}, {plan.warmup_steps} warm-up steps')
    if plan.notes:
        log('differs from the recipe: ' + '; '.join(plan.notes))


__all__ = ['Interrupted', 'train']
