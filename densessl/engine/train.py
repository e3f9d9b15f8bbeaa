"""Pretraining, from a config to a checkpoint."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size, init_dist
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm

from densessl import __version__
from densessl.config import load_config
from densessl.data.images import ImageList, find_images
from densessl.data.labels import class_labels
from densessl.data.loader import ViewDataset, build_loader
from densessl.data.masks import MaskStore, store_for_training
from densessl.data.views import view_class_of
from densessl.dist import check_launcher
from densessl.engine.check import check_config
from densessl.engine.health import CollapseHook
from densessl.engine.hooks import Interrupted, StepHook, StopHook
from densessl.engine.log import LogValuesHook, WaitingLogProcessor
from densessl.engine.loop import PretrainLoop
from densessl.engine.plan import Plan, choose_row, make_plan
from densessl.engine.runner import PretrainRunner, experiment_name, newest_checkpoint
from densessl.engine.settings import changes, settings_of
from densessl.engine.signals import given_back_after_failure
from densessl.errors import UsageError
from densessl.files import remove_leftovers, require_work_folder
from densessl.lock import run_lock
from densessl.method import Method
from densessl.registry import METHODS


def train(config: str, *, data: str | None = None, masks: str | None = None,
          work_dir: str | None = None, resume: bool = False, epochs: int | None = None,
          options: dict[str, Any] | None = None, launcher: str = 'none',
          allow_smaller_negatives: bool = False) -> Path:
    """Pretrain a backbone.

    Args:
        config: path or name of a pretraining config.
        data: folder of images or tar shards, text file of paths or COCO JSON; the config's ``data``
            if None.
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
        UsageError: wrong config, data, masks or work folder; another run is at work in it.
        RunFailed: a checkpoint could not be written.
        Interrupted: a signal stopped the run; its checkpoint is saved.
    """
    check_launcher(launcher, 'train')
    cfg = load_config(config, options)
    method = check_config(cfg, config)
    epochs = choose_row(cfg, epochs)
    if options:
        cfg.merge_from_dict(options)   # what the command line says outweighs the recipe's row
    folder = Path(work_dir or cfg.get('work_dir') or f'work_dirs/{Path(config).stem}')
    require_work_folder(folder)
    rank, processes = start_processes(launcher)
    try:
        with run_lock(folder, is_holder=rank == 0):
            _check_folder(folder, resume)
            if rank == 0:
                remove_leftovers(folder)
            return _train(cfg, method, config, data, masks, folder, epochs, resume, launcher,
                          (rank, processes), allow_smaller_negatives)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _train(cfg: Config, method: type[Method], config: str, data: str | None, masks: str | None,
           folder: Path, epochs: int, resume: bool, launcher: str, process: tuple[int, int],
           allow_smaller_negatives: bool) -> Path:
    """Everything once the folder is this run's; ``process`` is (rank, number of processes)."""
    rank, processes = process
    images = _images(data or cfg.get('data'), config)
    store, images = _masks(cfg, method, images, masks, is_builder=rank == 0)
    plan = make_plan(cfg, epochs=epochs, images=len(images), processes=processes)
    published = load_config(config)
    choose_row(published, epochs)
    _refuse_accumulation(cfg, method, plan, allow_smaller_negatives)
    labels = class_labels(images) if method.needs_labels else None
    if labels is not None:
        cfg.model.num_classes = int(labels.max()) + 1
    dataset = dataset_of(cfg, images, store, labels)
    runner = build_runner(cfg, config, plan, dataset, folder, launcher, resume)
    _announce(runner, cfg, plan, images, store,
              changes(settings_of(published), settings_of(cfg)))
    with given_back_after_failure(Interrupted):
        runner.train()
    checkpoint = folder / f'iter_{plan.steps * plan.accumulate}.pth'
    runner.logger.info(f'done: {checkpoint}; next: densessl export {checkpoint}')
    return checkpoint


def _check_folder(folder: Path, resume: bool) -> None:
    newest = newest_checkpoint(folder) if folder.exists() else None
    if newest and not resume:
        raise UsageError(f'{folder} already holds a run ({newest.name}): add --resume to go on, '
                         f'or choose another --work-dir')


def _refuse_accumulation(cfg: Config, method: type[Method], plan: Plan, allowed: bool) -> None:
    """Accumulated gradients are not those of the bigger batch where images of a batch meet: as
    negatives, or in batch norm."""
    if plan.accumulate == 1 or allowed:
        return
    normed = any(isinstance(module, _BatchNorm)
                 for module in METHODS.build(cfg.model.to_dict()).modules())
    meet = [words for words, there in (
        ('an anchor would meet the negatives', method.batch_negatives),
        ('batch norm would see the statistics', normed)) if there]
    if meet:
        raise UsageError(
            f'optim_wrapper.accumulative_counts {plan.accumulate}: {" and ".join(meet)} of '
            f'{plan.global_batch // plan.accumulate} images, not of {plan.global_batch}; use more '
            f'processes, or accept it with --allow-smaller-negatives')


def _images(data: str | None, config: str) -> ImageList:
    if not data or not Path(data).exists():
        raise UsageError(f'{config}: no images at {data!r}: give any folder of images (or a text '
                         f'file of paths, or a COCO JSON) with --data DIR')
    return find_images(data)


def start_processes(launcher: str) -> tuple[int, int]:
    """Initialize the process group of a launcher; return (rank, number of processes)."""
    if launcher == 'none':
        return 0, 1
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
    iterations = plan.steps * plan.accumulate
    interval = min(cfg.log_interval, iterations)   # a short run has its line, too
    every = max(1, round(cfg.checkpoint.every_epochs * plan.steps / plan.epochs)) * plan.accumulate
    hooks = dict(
        runtime_info=LogValuesHook(interval, plan.batch_size),
        logger=dict(type='LoggerHook', interval=interval, log_metric_by_epoch=False),
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=every,
                        max_keep_ckpts=cfg.checkpoint.keep, save_last=True),
        timer=None, sampler_seed=None, param_scheduler=None)
    return PretrainRunner(
        model=model, work_dir=str(folder), train_dataloader=loader, optim_wrapper=optim_wrapper,
        train_cfg=dict(type=PretrainLoop, max_iters=iterations),
        default_hooks=hooks, resume=resume, launcher=launcher, default_scope='mmengine',
        custom_hooks=[StepHook(plan.factor, cfg.seed, plan.steps),
                      CollapseHook(interval), StopHook(),
                      *cfg.get('custom_hooks', [])],
        log_processor=WaitingLogProcessor(cfg.train_dataloader.num_workers),
        visualizer=cfg.get('visualizer'), env_cfg=cfg.get('env_cfg', dict()),
        randomness=dict(seed=cfg.seed), experiment_name=experiment_name(folder), cfg=cfg,
        provenance=_provenance(cfg, config, plan, dataset),
        identity={**settings_of(cfg), 'global_batch': plan.global_batch, 'steps': plan.steps,
                  'iterations an update': plan.accumulate, 'seed': cfg.seed,
                  'images': f'{len(dataset)} (list {dataset.images.digest()})'})


def _provenance(cfg: Config, config: str, plan: Plan, dataset: ViewDataset) -> dict[str, Any]:
    return {'densessl': __version__, 'method': cfg.model.type, 'config': Path(config).stem,
            'backbone': cfg.model.backbone.to_dict(), 'mean': list(cfg.normalization.mean),
            'std': list(cfg.normalization.std), 'channel_order': 'RGB',
            'data': dataset.images.root.name, 'images': len(dataset), 'epochs': plan.epochs,
            'steps': plan.steps, 'global_batch': plan.global_batch, 'seed': cfg.seed,
            'masks': dataset.store.info.get('generator') if dataset.store else None,
            'torch': str(torch.__version__)}


def _announce(runner: PretrainRunner, cfg: Config, plan: Plan, images: ImageList,
              store: MaskStore | None, changed: list[tuple[str, Any, Any]]) -> None:
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
    notes = [*plan.notes, *(f'{key} {new} instead of {old}' for key, old, new in changed)]
    if notes:
        log('differs from the recipe: ' + '; '.join(notes))


__all__ = ['Interrupted', 'train']
