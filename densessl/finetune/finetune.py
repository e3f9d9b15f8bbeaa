"""Fine-tune and score: a downstream config, initial weights, labelled data → scores."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope

from densessl import __version__
from densessl.devices.heap import keep_freed_memory
from densessl.dist import check_launcher, is_first_process, launched_rank, print_once
from densessl.engine.finite import FiniteHook
from densessl.environment import building, saying
from densessl.errors import Interrupted, UsageError
from densessl.files.json_files import write_json
from densessl.files.lock import run_lock
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.image_loading import measured, read_as_displayed, rule_for
from densessl.finetune.labelled_data import data_digest, inspect_labelled
from densessl.finetune.labelled_subset import Subset, build_training_sets, take_fraction
from densessl.finetune.resume import FinetuneStopHook
from densessl.finetune.run import FinetuneRun
from densessl.finetune.run_folder import (
    DATA,
    SCORES,
    config_digest,
    decisive_values,
    earlier_run,
    finished_run,
    score_words,
    start_run,
)
from densessl.finetune.runner import FinetuneRunner, HandoffHook, ProgressHook
from densessl.finetune.schedule import own_schedule
from densessl.finetune.scoring import ScoresHook
from densessl.finetune.weights import fit_backbone, likeness
from densessl.labels.data_check import check_data
from densessl.labels.data_report import DataReport
from densessl.machine.signals import given_back_after_failure
from densessl.overrides import replaced_overrides
from densessl.training.runner import experiment_name, last_good
from densessl.transfer.target import TransferTarget
from densessl.weights.backbone_file import RANDOM


def finetune(run: FinetuneRun, *, resume: bool = False, overwrite: bool = False,
             launcher: str = 'none', check: bool = True) -> dict[str, float]:
    """Fine-tune a downstream model from a backbone and return its headline scores.

    Writes into the run's folder: ``run.json`` (its identity), ``subset.json`` (training images),
    the translated weights, mmengine's logs and checkpoints, and at the end ``scores.json``.

    Args:
        resume: go on from the newest checkpoint in the folder, if there is one.
        overwrite: run again in a folder that holds a run, which else is kept, or refused.
        launcher: ``none``, or mmengine's ``pytorch``, ``slurm``, ``mpi``.
        check: open every labelled file that will be used before anything is trained.

    Raises:
        UsageError: config, backbone, data, weights or folder are not usable; one line says why.
        Interrupted: a signal stopped the run (:class:`densessl.errors.Interrupted`).
    """
    if launcher != 'none' and get_device() == 'cpu':
        raise UsageError(f'--launcher {launcher} needs GPUs; leave it out to fine-tune on the CPU')
    check_launcher(launcher, 'finetune')
    keep_freed_memory()
    cfg, target = read_downstream_config(run.config, run.options)
    identity = run.identity(config_digest(cfg),
                            likeness(cfg, target, run.like, run.keep, run.freeze))
    values, folder = decisive_values(cfg), run.folder()
    is_scored = (folder / SCORES).exists() and not overwrite     # nothing will be written
    is_holder = launched_rank(launcher) == 0
    with run_lock(folder, is_holder=is_holder and not is_scored):
        done, checkpoint = earlier_run(folder, identity, values, resume, overwrite, print_once)
        if resume and not done and checkpoint is None:
            print_once(f'nothing to resume in {folder}: starting at the beginning')
        started = time.time()
        cfg.work_dir, cfg.launcher, cfg.randomness = str(folder), launcher, {'seed': run.seed}
        recipe = fit_backbone(cfg, target, run.weights or run.like, run.keep, run.freeze,
                              run.allow_partial)
        _complete_imports(cfg, target)
        reports, data = _point_at_data(cfg, target, run, is_done=done is not None)
        if reports is not None:
            identity[DATA] = data_digest(reports)
            finished_run(folder, {DATA: identity[DATA]}, overwrite)     # refuses other data
        if done is not None:
            print_once(f'done already: {score_words(done["scores"])}  ({folder / SCORES}; '
                       f'--overwrite runs it again)')
            return done['scores']
        subset, more = _draw_images(cfg, run, reports, check)
        # until here, all may be refused and nothing is written
        start_run(folder, identity, overwrite, values, clean=is_holder)
        subset.write(folder)
        if run.weights:
            run.weights.place(cfg, target, folder)
        _announce(cfg, run, recipe, [*data, *more])
        record = _train_and_score(cfg, target, run, checkpoint)
        record.update(settings=identity, recipe=recipe,
                      provenance=run.weights.meta if run.weights else None,
                      like=run.like.meta if run.like else None,
                      seconds=round(time.time() - started), densessl=__version__)
        if is_first_process():
            write_json(folder / SCORES, record)
    print_once(f'{score_words(record["scores"])}  ({folder / SCORES})')
    return record['scores']


def _complete_imports(cfg: Config, target: TransferTarget) -> None:
    """Name, beside what the config imports itself, what has to be imported to use it elsewhere."""
    of_config = cfg.get('custom_imports') or {}
    names = of_config.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    names += [name for name in target.config_imports if name not in names]
    if names:
        cfg.custom_imports = {**of_config, 'imports': names}


def _point_at_data(cfg: Config, target: TransferTarget, run: FinetuneRun, *, is_done: bool
                   ) -> tuple[list[DataReport] | None, list[str]]:
    """Point the config at the labelled data; what they hold (None of a finished run whose data are
    gone) and lines about it.

    Raises:
        UsageError: the data cannot be used.
    """
    try:
        lines = target.set_data(cfg, str(run.data_root) if run.data_root else None)
        reports, more = inspect_labelled(cfg, target)
    except UsageError:
        if not is_done:
            raise
        return None, []
    return reports, [*lines, *more]


def _draw_images(cfg: Config, run: FinetuneRun, reports: list[DataReport], check: bool
                 ) -> tuple[Subset, list[str]]:
    """Restrict the config's data to the run's fraction, and have its images read as the weights
    need them; return the drawn images and lines that say what the data is. Nothing is written.

    Raises:
        UsageError: the data cannot be used.
    """
    pretrained = run.weights or run.like
    rule = rule_for(pretrained.meta if pretrained else None, run.pixels.record())
    with DefaultScope.overwrite_default_scope(cfg.default_scope), building(
            'train_dataloader.dataset'):
        built = build_training_sets(cfg)
        rule = measured(rule, built, say=is_first_process())
        lines = read_as_displayed(cfg, rule)
        subset = take_fraction(cfg, run.fraction, run.seed, built)
    lines = [*lines, str(subset)]
    if check and is_first_process():
        found = check_data(reports, set(subset.images), rule=rule)
        found.require_usable()
        lines += found.warnings()
    return subset, lines


def _announce(cfg: Config, run: FinetuneRun, recipe: list[str], data: list[str]) -> None:
    like = f', with the network and the input of {run.like}' if run.like else ''
    print_once(f'device: {get_device()}\nbackbone: {run.weights or RANDOM + like}')
    for title, lines in (('recipe', recipe), ('data', data),
                         ('override', replaced_overrides(cfg, dict(run.options)))):
        for line in lines:
            print_once(f'{title}: {line}')


def _train_and_score(cfg: Config, target: TransferTarget, run: FinetuneRun,
                     checkpoint: Path | None) -> dict[str, Any]:
    """Train and evaluate; return scores, all metrics, and what the checks found.

    Args:
        cfg: a complete downstream config.
        checkpoint: to go on from.
    """
    cfg.experiment_name = experiment_name(cfg.work_dir)
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    with building('the rest'):   # what has no name of its own in the runner
        runner = FinetuneRunner.from_cfg(cfg)
    runner.resume_from, runner.fit_warmup = checkpoint, not own_schedule(run.options)
    handoff = HandoffHook(target, run.weights, 'input' not in run.keep, run.allow_partial)
    scored = ScoresHook(target)
    # not by the config, which Runner copies and writes out
    for hook in (FiniteHook(), scored, handoff, ProgressHook(), FinetuneStopHook()):
        runner.register_hook(hook)
    # more signals of its request are to be expected
    with given_back_after_failure(Interrupted), saying(lambda: last_good(runner.work_dir)):
        runner.train()
        if not scored.scores:   # resumed at the end: it was stopped before it was scored
            runner.val_loop.run()
    metrics = {key: round(float(value), 4) for key, value in scored.metrics.items()}
    return {'scores': scored.scores, 'metrics': metrics, 'handoff': handoff.report,
            'iterations': runner.iter, 'resumed_from': checkpoint.name if checkpoint else None}
