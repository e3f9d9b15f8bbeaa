"""Fine-tune and score: a downstream config, initial weights, labelled data → scores."""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope

from densessl import __version__
from densessl.backbones import target_names
from densessl.config import load_config
from densessl.dist import check_launcher, launched_rank
from densessl.engine.guard import building
from densessl.errors import UsageError
from densessl.files import work_folder, write_json
from densessl.finetune.checked_overrides import check_seed, check_values
from densessl.finetune.data_check import check_data, inspect_labelled
from densessl.finetune.datasets import build_training_sets, check_fraction, take_fraction
from densessl.finetune.fitting import fit_backbone, likeness
from densessl.finetune.image_loading import measured, read_as_displayed, rule_for
from densessl.finetune.override_arguments import arguments_in
from densessl.finetune.run_folder import (
    config_digest,
    decisive_values,
    earlier_run,
    score_words,
    start_run,
)
from densessl.finetune.schedule import check_warmups, own_schedule, scale_schedule
from densessl.finetune.training import train_and_score
from densessl.finetune.weights import Weights
from densessl.lock import run_lock
from densessl.overrides import replaced_overrides, settle_types
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.target import TransferTarget

RANDOM = 'random'


def finetune(config: str, backbone: str | Path = RANDOM, data_root: str | Path | None = None,
             fraction: float = 1.0, work_dir: str | Path | None = None,
             cfg_options: dict[str, Any] | None = None, seed: int = 0,
             keep: tuple[str, ...] = (), allow_partial: bool = False, overwrite: bool = False,
             launcher: str = 'none', freeze: int | None = None, like: str | Path | None = None,
             resume: bool = False, pixels: dict[str, Any] | None = None, check: bool = True
             ) -> dict[str, float]:
    """Fine-tune a downstream model from a backbone and return its headline scores.

    Writes into ``work_dir``: ``run.json`` (settings), ``subset.json`` (training images), the
    translated weights, mmengine's logs and checkpoints, and at the end ``scores.json``.

    Args:
        config: path or name of a downstream config.
        backbone: an exported ``backbone.pth``, or ``'random'``.
        data_root: the data set's folder; the config's own if None.
        fraction: of the training images, in (0, 1]; nested and drawn with ``seed``.
        work_dir: default ``work_dirs/<config>-<backbone>-<fraction>-seed<seed>``.
        cfg_options: overrides by dotted key.
        seed: of the subset and of the training.
        keep: recipe lines (:data:`densessl.transfer.recipe.LINES`) to leave as in the config.
        allow_partial: go on when weights or features do not match.
        overwrite: run again in a folder that holds a run, which else is kept, or refused.
        launcher: ``none``, or mmengine's ``pytorch``, ``slurm``, ``mpi``.
        freeze: how many stages stay as loaded, besides the stem; None: all is trained.
        like: an exported file; random weights get its network and input, to be compared with it.
        resume: go on from the newest checkpoint in ``work_dir``, if there is one.
        pixels: ``value_range`` and ``bands`` in the place of those of the pretraining.
        check: open every labelled file that will be used before anything is trained.

    Raises:
        UsageError: config, backbone, data, weights or folder are not usable; one line says why.
        Interrupted: a signal stopped the run (:class:`densessl.training.hooks.Interrupted`).
    """
    _check_request(fraction, seed, launcher)
    cfg, target = read_downstream_config(config, cfg_options)
    _check_likeness(backbone, like)
    weights = None if str(backbone) == RANDOM else Weights.load(backbone)
    pattern = None if like is None else Weights.load(like)
    folder = work_folder(work_dir, _default_folder(config, weights, fraction, seed))
    settings = {**_settings(config, cfg, weights, data_root, fraction, seed, keep, freeze, pixels),
                'like': likeness(cfg, target, pattern, keep, freeze)}
    values = decisive_values(cfg)
    scored = (folder / 'scores.json').exists() and not overwrite    # nothing will be written
    holds = launched_rank(launcher) == 0
    with run_lock(folder, is_holder=holds and not scored):
        done, checkpoint = earlier_run(folder, settings, values, resume, overwrite, _print)
        if done is not None:
            _print(f'done already: {score_words(done["scores"])}  ({folder / "scores.json"}; '
                   f'--overwrite runs it again)')
            return done['scores']
        cfg.work_dir, cfg.launcher, cfg.randomness = str(folder), launcher, {'seed': seed}
        if resume and checkpoint is None:
            _print(f'nothing to resume in {folder}: starting at the beginning')
        record = _finetune(cfg, target, weights, pattern, settings, data_root, allow_partial, check,
                           lambda: start_run(folder, settings, overwrite, values, clean=holds),
                           {'resume_from': checkpoint, 'fit_warmup': not own_schedule(cfg_options)},
                           cfg_options or {})
    _print(f'{score_words(record["scores"])}  ({folder / "scores.json"})')
    return record['scores']


def _check_request(fraction: float, seed: int, launcher: str) -> None:
    check_fraction(fraction)
    check_seed(seed)
    if launcher != 'none' and get_device() == 'cpu':
        raise UsageError(f'--launcher {launcher} needs GPUs; leave it out to fine-tune on the CPU')
    check_launcher(launcher, 'finetune')


def _check_likeness(backbone: str | Path, like: str | Path | None) -> None:
    if like is not None and str(backbone) != RANDOM:
        raise UsageError(f'--like {like} is for --backbone {RANDOM}; weights from a file follow '
                         f'their own pretraining')


def _settings(config: str, cfg: Config, weights: Weights | None, data_root: str | Path | None,
              fraction: float, seed: int, keep: Iterable[str], freeze: int | None,
              pixels: dict[str, Any] | None) -> dict[str, Any]:
    """What a run is told apart by, for ``run.json``."""
    return {
        'config': Path(config).stem, 'config_hash': config_digest(cfg),
        'backbone': weights.meta['sha256'] if weights else RANDOM,
        'data_root': str(Path(data_root).resolve()) if data_root else None,
        'fraction': fraction, 'seed': seed, 'keep': sorted(keep), 'freeze': freeze,
        'pixels': rule_for(None, pixels).record() or None}


def _finetune(cfg: Config, target: TransferTarget, weights: Weights | None,
              pattern: Weights | None, settings: dict[str, Any], data_root: str | Path | None,
              allow_partial: bool, check: bool, start: Callable[[], None],
              runner: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Everything after the decision that there is something to do; returns ``scores.json``.

    Args:
        start: makes the folder, once nothing is refused any more.
        runner: attributes of the runner.
        options: the overrides, which are in ``cfg``: what took the place of one is said.
    """
    started, folder = time.time(), Path(cfg.work_dir)
    recipe = fit_backbone(cfg, target, weights or pattern, settings['keep'], settings['freeze'],
                          allow_partial)
    _complete_imports(cfg, target)
    data = target.set_data(cfg, str(data_root) if data_root else None)
    reports, lines = inspect_labelled(cfg, target)
    rule = rule_for((weights or pattern).meta if weights or pattern else None, settings['pixels'])
    with DefaultScope.overwrite_default_scope(cfg.default_scope), building(
            'train_dataloader.dataset'):
        built = build_training_sets(cfg)
        rule = measured(rule, built, say=_is_first_process())
        lines += read_as_displayed(cfg, rule)
        subset = take_fraction(cfg, settings['fraction'], settings['seed'], built)
    data += [*lines, str(subset)]
    if check and _is_first_process():
        found = check_data(reports, set(subset.images), rule=rule)
        found.require_usable()
        data += found.warnings()
    start()
    subset.write(folder)
    if weights:
        weights.place(cfg, target, folder)
    words = f'{RANDOM}, with the network and the input of {pattern}' if pattern else RANDOM
    _print(f'device: {get_device()}\nbackbone: {weights or words}')
    for title, lines in (('recipe', recipe), ('data', data),
                         ('override', replaced_overrides(cfg, options))):
        for line in lines:
            _print(f'{title}: {line}')
    record = train_and_score(cfg, target, weights, 'input' not in settings['keep'],
                             allow_partial, runner)
    record.update(settings=settings, recipe=recipe, provenance=weights.meta if weights else None,
                  like=pattern.meta if pattern else None,
                  seconds=round(time.time() - started), densessl=__version__)
    if _is_first_process():
        write_json(folder / 'scores.json', record)
    return record


def read_downstream_config(config: str, options: dict[str, Any] | None = None
                           ) -> tuple[Config, TransferTarget]:
    """Read a downstream config and prepare the target that its ``default_scope`` names."""
    published = load_config(config)
    able = [name for name in target_names() if TRANSFER_TARGETS.get(name).finetunes]
    scope = published.get('default_scope')
    if scope not in able or 'train_cfg' not in published:
        raise UsageError(f'{config} is no downstream config: its default_scope is {scope!r}, and '
                         f'fine-tuning is known for {", ".join(able) or "no installed target"}')
    target = TRANSFER_TARGETS.get(scope)()
    target.prepare()
    options = options or {}
    cfg = load_config(config, options)
    for line in settle_types(cfg, published, options, arguments_in(published)):
        _print(f'override: {line}')
    check_values(cfg, published, options)
    scale_schedule(cfg, published, options)
    check_warmups(cfg.get('param_scheduler'), cfg.train_cfg.get('max_iters'),
                  cfg.train_cfg.get('max_epochs'))
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader and loader.get('num_workers') == 0:
            loader.persistent_workers = False   # PyTorch refuses it without workers
    return cfg, target


def _complete_imports(cfg: Config, target: TransferTarget) -> None:
    """Name, beside what the config imports itself, what has to be imported to use it elsewhere."""
    own = cfg.get('custom_imports') or {}
    named = own.get('imports') or []
    named = [named] if isinstance(named, str) else list(named)
    named += [name for name in target.config_imports if name not in named]
    if named:
        cfg.custom_imports = {**own, 'imports': named}


def _default_folder(config: str, weights: Weights | None, fraction: float, seed: int) -> str:
    stem = weights.path.stem if weights else RANDOM
    return f'work_dirs/{Path(config).stem}-{stem}-{fraction:g}-seed{seed}'


def _is_first_process() -> bool:
    return os.environ.get('RANK', '0') == '0'


def _print(text: str) -> None:
    if _is_first_process():
        print(text, flush=True)
