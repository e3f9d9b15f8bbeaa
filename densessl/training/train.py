"""Pretraining, from a config to a checkpoint."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from torch.distributed import Store

from densessl.devices.backends import Backends
from densessl.devices.heap import keep_freed_memory
from densessl.dist import check_launcher, while_first_works
from densessl.engine.checkpoint_file import newest_checkpoint
from densessl.engine.launch import Launch, read_launch
from densessl.engine.meeting import missing_named, together
from densessl.engine.stop import StopHook
from densessl.environment import saying
from densessl.errors import Interrupted, UsageError
from densessl.export.start import Start
from densessl.files.folders import require_work_folder, work_folder
from densessl.files.lock import run_lock
from densessl.files.writing import remove_leftovers
from densessl.images.image_list import ImageList
from densessl.labels.class_labels import class_labels
from densessl.machine.signals import given_back_after_failure
from densessl.masks.find import store_for_training
from densessl.masks.store import Masks
from densessl.method import Method
from densessl.planning.configured import Configured, configure, refuse_twice_said
from densessl.planning.continuing import Continuing, ContinuingHook
from densessl.planning.plan import (
    PATIENCE,
    Plan,
    make_plan,
    refuse_small_batches,
    require_enough_images,
)
from densessl.planning.start import find_start, keep
from densessl.training.hooks import StepHook
from densessl.training.live import show_live
from densessl.training.log import LogValuesHook, WaitingLogProcessor
from densessl.training.loop import PretrainLoop
from densessl.training.picture_hook import PictureHook
from densessl.training.run_data import asked_masks, dataset_of, images_of
from densessl.training.run_facts import identity_of, provenance_of, refuse_another_run
from densessl.training.run_record import begun_in, write_record
from densessl.training.runner import PretrainRunner, experiment_name, last_good
from densessl.views.dataset import ViewDataset, build_loader
from densessl.views.unreadable import UNREADABLE, UnreadableImages
from densessl.watch.hooks import settle_probe, watch_hooks
from densessl.weights.lineage import lineage


def train(config: str, *, data: str | None = None, masks: str | None = None,
          work_dir: str | None = None, resume: bool = False, epochs: float | None = None,
          options: dict[str, Any] | None = None, launcher: str = 'none',
          allow_smaller_negatives: bool = False, pixels: dict[str, Any] | None = None,
          init: Mapping[str, Any] | None = None, probe: str | None = None,
          quiet: bool = False, held: Callable[[Path], Any] = lambda folder: None) -> Path:
    """Pretrain a backbone.

    Args:
        config: path or name of a pretraining config.
        data: folder of images or tar shards, text file or COCO JSON; the config's if None.
        masks: a mask store to use; if None the config's, or one is made in the cache.
        work_dir: where checkpoints and logs go; ``work_dirs/<config>`` if None.
        resume: go on from the newest checkpoint in ``work_dir``.
        epochs: how long, in passes over the images; chooses the row of the config's recipe.
        options: overrides by dotted key.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        allow_smaller_negatives: accumulate although negatives come from single iterations.
        pixels: ``value_range`` and ``bands`` instead of the config's.
        init: of weights to start from, keys of :data:`densessl.planning.start.CONFIG_KEYS`.
        probe: labelled images to probe on while training; the config's ``probe.data`` if None.
        quiet: say nothing but warnings, and how far masks are that are being made.
        held: called with the work folder once it is this run's.

    Returns:
        The final checkpoint.

    Raises:
        UsageError: wrong config, data, masks or work folder; another run is at work in it.
        RunFailed: a checkpoint could not be written, or other processes are gone.
        Interrupted: a signal stopped the run; its checkpoint is saved.
    """
    check_launcher(launcher, 'train')
    keep_freed_memory()
    options, init = options or {}, dict(init or {})
    refuse_twice_said(options, {'data': data, 'work_dir': work_dir, 'epochs': epochs,
                                'masks': masks, 'probe.data': probe, **init})

    def folder_of(cfg: Config) -> Path:
        return work_folder(work_dir, str(cfg.get('work_dir') or f'work_dirs/{Path(config).stem}'))
    configured = configure(config, options, epochs, init,
                           lambda cfg: find_start(cfg, folder_of(cfg), resume=resume))
    configured.cfg.update(pixels or {})
    settle_probe(configured.cfg, probe)
    folder = folder_of(configured.cfg)
    require_work_folder(folder)
    configured.method.check_run(configured.cfg)
    minutes = configured.cfg.get('process_timeout', PATIENCE)
    with (together(read_launch(launcher), minutes) as (launch, store),
          run_lock(folder, is_holder=launch.rank == 0)):
        _check_folder(folder, resume)
        held(folder)
        if launch.rank == 0:
            remove_leftovers(folder)
        images = images_of(configured.cfg, config, data, masks,
                           say=launch.rank == 0 and not quiet)
        return _train(configured, images, masks, folder, launch, store, resume=resume, quiet=quiet,
                      allow_smaller_negatives=allow_smaller_negatives)


def _train(configured: Configured, images: ImageList, masks: str | None, folder: Path,
           launch: Launch, store: Store | None, *, resume: bool, allow_smaller_negatives: bool,
           quiet: bool) -> Path:
    """The run, in a folder that is held and with data that was found; returns its checkpoint."""
    cfg, method, start = configured.cfg, configured.method, configured.start
    is_first = launch.rank == 0
    region_masks, images = _masks(cfg, method, images, masks, is_builder=is_first)
    labels = class_labels(images) if method.needs_labels else None
    if labels is not None:
        cfg.model.num_classes = int(labels.max()) + 1
    plan = make_plan(cfg, configured.options, epochs=configured.epochs, images=len(images),
                     processes=launch.processes)
    refuse_small_batches(cfg, method, plan, launch.processes, allow_smaller_negatives)
    unreadable = UnreadableImages(len(images), cfg.get('max_unreadable', 0.01),
                                  folder / UNREADABLE)
    if is_first:
        unreadable.begin(images, resume=resume)
    dataset = dataset_of(cfg, images, region_masks, labels, unreadable)
    dataset.targets = _targets(cfg, method, images, is_builder=is_first)
    watching = watch_hooks(
        cfg, method, lines=_lines(cfg, plan), images=len(images),
        global_batch=plan.global_batch, start=start and start.file.name, is_first=is_first)
    runner = build_runner(cfg, configured.config, plan, dataset, folder, launch.launcher, resume,
                          start, watching)
    require_enough_images(plan, len(images))    # after all that is wrong with the config
    if resume:
        refuse_another_run(folder, runner.identity, runner.keys_of_files)
    if is_first:
        write_record(folder, runner.provenance, plan, dataset,
                     begun=(begun_in(folder) if resume else None) or runner.timestamp)
        if start or not resume:
            keep(start, folder)
    return _run(runner, configured, plan, dataset, folder, launch, store, quiet=quiet)


def _run(runner: PretrainRunner, configured: Configured, plan: Plan, dataset: ViewDataset,
         folder: Path, launch: Launch, store: Store | None, *, quiet: bool) -> Path:
    """Train, and say on the console what is begun, how far it is and what came of it."""
    live = show_live(runner, quiet=quiet)
    _announce(runner, configured, plan, dataset)
    with (closing(live) if live else nullcontext(), given_back_after_failure(Interrupted),
          saying(lambda: last_good(folder)), missing_named(launch, store)):
        runner.train()
    if said := dataset.unreadable.said():
        runner.logger.warning(f'{said}; the next in the list took their places')
    checkpoint = folder / f'iter_{plan.steps * plan.accumulate}.pth'
    runner.logger.info(f'done: {checkpoint}; next: densessl export {checkpoint}')
    return checkpoint


def _check_folder(folder: Path, resume: bool) -> None:
    newest = newest_checkpoint(folder) if folder.exists() else None
    if newest and not resume:
        raise UsageError(f'{folder} already holds a run ({newest.name}): add --resume to go on, '
                         f'or choose another --work-dir')


def _targets(cfg: Config, method: type[Method], images: ImageList, *, is_builder: bool) -> Any:
    with while_first_works():
        found = method.make_targets(cfg, images, is_builder=True) if is_builder else None
    return found if is_builder else method.make_targets(cfg, images, is_builder=False)


def _masks(cfg: Config, method: type[Method], images: ImageList, masks: str | None,
           *, is_builder: bool) -> tuple[Masks | None, ImageList]:
    if not method.needs_masks:
        if masks:
            raise UsageError(f'--masks {masks}: {cfg.model.type} takes no region masks; leave it '
                             f'out')
        return None, images
    asked = asked_masks(cfg, masks)
    with while_first_works():
        found = store_for_training(images, asked, is_builder=is_builder)
    if not is_builder:       # the builder may have made masks of changed images again
        found = store_for_training(images, asked, is_builder=False)
    return found


def build_runner(cfg: Config, config: str, plan: Plan, dataset: ViewDataset, folder: Path,
                 launcher: str, resume: bool, start: Start | None = None,
                 watching: Sequence[Hook] = ()) -> PretrainRunner:
    """Turn our config into the arguments of mmengine's Runner."""
    loader = build_loader(dataset, batch_size=plan.batch_size, rank=get_rank(),
                          world_size=get_world_size(), pin_memory=get_device() == 'cuda',
                          num_workers=cfg.train_dataloader.num_workers)
    optim_wrapper = cfg.optim_wrapper.to_dict()
    optim_wrapper['optimizer']['lr'] = plan.lr
    iterations = plan.steps * plan.accumulate
    interval = _lines(cfg, plan)
    save_steps = max(1, round(cfg.checkpoint.every_epochs * plan.steps / plan.epochs))
    hooks = dict(
        runtime_info=LogValuesHook(interval, plan.batch_size),
        logger=dict(type='LoggerHook', interval=interval, log_metric_by_epoch=False),
        checkpoint=dict(type='CheckpointHook', by_epoch=False, save_last=True,
                        interval=save_steps * plan.accumulate, max_keep_ckpts=cfg.checkpoint.keep),
        timer=None, sampler_seed=None, param_scheduler=None)
    return PretrainRunner(
        model=cfg.model.to_dict(), work_dir=str(folder), train_dataloader=loader,
        optim_wrapper=optim_wrapper,
        train_cfg=dict(type=PretrainLoop, max_iters=iterations),
        default_hooks=hooks, resume=resume, launcher=launcher, default_scope='mmengine',
        custom_hooks=[StepHook(plan.factor, cfg.seed, plan.steps),
                      *watching,
                      StopHook(timedelta(minutes=cfg.get('process_timeout', PATIENCE))),
                      PictureHook(dataset_of(cfg, dataset.images, dataset.masks),
                                  cfg.normalization.to_dict(), cfg.get('pictures', 0),
                                  iterations, resume=resume),
                      *([ContinuingHook(Continuing.of(cfg), plan.steps)] if start else []),
                      *cfg.get('custom_hooks', [])],
        log_processor=WaitingLogProcessor(cfg.train_dataloader.num_workers),
        visualizer=cfg.get('visualizer'), env_cfg=cfg.get('env_cfg', dict()),
        randomness=dict(seed=cfg.seed), experiment_name=experiment_name(folder), cfg=cfg,
        provenance=provenance_of(cfg, config, plan, dataset, start), start=start,
        identity=identity_of(cfg, plan, dataset, start))


def _lines(cfg: Config, plan: Plan) -> int:
    """Iterations between two lines of the log; a short run logs a line, too."""
    return min(cfg.log_interval, plan.steps * plan.accumulate)


def _announce(runner: PretrainRunner, configured: Configured, plan: Plan, dataset: ViewDataset
              ) -> None:
    parameters = sum(p.numel() for p in runner.model.parameters() if p.requires_grad)
    cfg, log = configured.cfg, runner.logger.info
    log(f'{cfg.model.type}: {cfg.model.backbone.type}, {parameters / 1e6:.1f} M trained '
        f'parameters, on {get_device()}'
        + (f' ({Backends.of(cfg)})' if get_device() == 'cuda' or cfg.get('deterministic') else ''))
    log(f'{len(dataset)} images of {dataset.images.root}'
        + (f', masks of {dataset.masks.root}' if dataset.masks else ''))
    number = getattr(runner.model, 'module', runner.model).negatives(
        plan.global_batch // plan.accumulate)
    negatives = '' if number is None else f'{number} negatives an anchor, '
    accumulated = f', {plan.accumulate} iterations an update' if plan.accumulate > 1 else ''
    log(f'{plan.epochs:g} epochs = {plan.steps} steps of {plan.global_batch} images '
        f'({plan.batch_size} a process{accumulated}), {negatives}'
        f'learning rate {plan.lr:g}, {plan.warmup_steps} warm-up steps')
    for line in (*lineage(runner.provenance), *configured.about_start(plan.steps),
                 *configured.about_overrides()):
        log(line)
    if notes := [*plan.notes, *configured.differences()]:
        log('differs from the recipe: ' + '; '.join(notes))
