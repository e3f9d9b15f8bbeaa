"""Fine-tune and score: a downstream config, initial weights, labelled data → scores."""
from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from densessl import __version__
from densessl.backbones import target_names
from densessl.config import load_config
from densessl.errors import UsageError
from densessl.files import write_json
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.export import load_backbone_file, save_backbone
from densessl.transfer.layouts import is_plain_resnet
from densessl.transfer.recipe import LINES, Recipe, clear_pretrained
from densessl.transfer.runs import finished_run, start_run
from densessl.transfer.schedule import scale_schedule
from densessl.transfer.subset import take_fraction
from densessl.transfer.target import State, TransferTarget

RANDOM = 'random'


def finetune(config: str, backbone: str | Path = RANDOM, data_root: str | Path | None = None,
             fraction: float = 1.0, work_dir: str | Path | None = None,
             cfg_options: dict[str, Any] | None = None, seed: int = 0,
             keep: tuple[str, ...] = (), allow_partial: bool = False, overwrite: bool = False,
             launcher: str = 'none') -> dict[str, float]:
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
        overwrite: run again in a folder that holds a run. Otherwise a finished run of the same
            settings is not repeated, and one of other settings is an error.
        launcher: ``none``, or mmengine's ``pytorch``, ``slurm``, ``mpi``.

    Raises:
        UsageError: config, backbone, data or weights are not usable; one line says why.
    """
    started = time.time()
    cfg, target = read_downstream_config(config, cfg_options)
    source, meta = (None, None) if backbone == RANDOM else load_backbone_file(backbone)
    folder = Path(work_dir or _default_folder(config, backbone, fraction, seed))
    settings = {
        'config': Path(config).stem, 'config_hash': _hash(cfg.pretty_text),
        'backbone': meta['sha256'] if meta else RANDOM,
        'data_root': str(Path(data_root).resolve()) if data_root else None,
        'fraction': fraction, 'seed': seed, 'keep': sorted(keep)}
    done = finished_run(folder, settings, overwrite)
    if done is not None:
        _print(f'done already: {_words(done["scores"])}  ({folder / "scores.json"}; '
               f'--overwrite runs it again)')
        return done['scores']
    cfg.work_dir, cfg.launcher, cfg.randomness = str(folder), launcher, {'seed': seed}
    target.prepare()
    lines = prepare_model(cfg, target, source, meta, keep, launcher)
    lines['data'] = target.set_data(cfg, str(data_root) if data_root else None)
    start_run(folder, settings, overwrite)
    init_default_scope(cfg.default_scope)
    lines['data'].append(take_fraction(cfg, fraction, seed, folder))
    state = place_weights(cfg, target, source, meta, folder)
    _announce(lines, backbone, meta)
    record = _run(cfg, target, state, source, meta, 'input' not in keep, allow_partial)
    record = {**record, 'settings': settings, 'recipe': lines['recipe'], 'provenance': meta,
              'seconds': round(time.time() - started), 'densessl': __version__}
    if os.environ.get('RANK', '0') == '0':
        write_json(folder / 'scores.json', record)
    _print(f'{_words(record["scores"])}  ({folder / "scores.json"})')
    return record['scores']


def read_downstream_config(config: str, options: dict[str, Any] | None = None
                           ) -> tuple[Config, TransferTarget]:
    """Read a downstream config and find the target that its ``default_scope`` names."""
    for name in target_names():   # their packages' configs can then be inherited from
        MODULE2PACKAGE.update(TRANSFER_TARGETS.get(name).config_packages)
    cfg = load_config(config, options)
    able = [name for name in target_names() if TRANSFER_TARGETS.get(name).finetunes]
    scope = cfg.get('default_scope')
    if scope not in able or 'train_cfg' not in cfg:
        raise UsageError(f'{config} is no downstream config: its default_scope is {scope!r}, and '
                         f'fine-tuning is known for {", ".join(able) or "no installed target"}')
    scale_schedule(cfg, load_config(config), options or {})
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader and loader.get('num_workers') == 0:
            loader.persistent_workers = False   # PyTorch refuses it without workers
    return cfg, TRANSFER_TARGETS.get(scope)()


def prepare_model(cfg: Config, target: TransferTarget, source: State | None,
                  meta: dict[str, Any] | None, keep: tuple[str, ...], launcher: str = 'none'
                  ) -> dict[str, list[str]]:
    """Clear other sources of weights and apply the recipe; return what was changed."""
    recipe = Recipe(
        mean=tuple(meta['mean']) if meta else None, std=tuple(meta['std']) if meta else None,
        channel_order=meta['channel_order'] if meta else 'RGB',
        plain_stem=source is None or is_plain_resnet(source),
        distributed=launcher != 'none', keep=frozenset(keep))
    lines = clear_pretrained(cfg) + target.apply_recipe(cfg, recipe)
    lines += [f'kept as in the config: {LINES[line]}' for line in sorted(recipe.keep)]
    return {'recipe': lines or ['the config follows it already']}


def place_weights(cfg: Config, target: TransferTarget, source: State | None,
                  meta: dict[str, Any] | None, folder: Path) -> State | None:
    """Translate the weights, write them to ``folder`` and have the config load them."""
    if source is None or meta is None:
        return None
    state = target.translate(source, meta['backbone']['type'])
    path = folder / f'backbone_{target.name}.pth'
    save_backbone(path, state, {**meta, 'keys': target.name})
    target.load_weights(cfg, str(path))
    return state


def _run(cfg: Config, target: TransferTarget, state: State | None, source: State | None,
         meta: dict[str, Any] | None, check_input: bool, allow_partial: bool) -> dict[str, Any]:
    """Train and evaluate; return scores, all metrics, and what the checks found."""
    from densessl.transfer.runner import FinetuneRunner, HandoffHook, ProgressHook
    cfg.experiment_name = f'{Path(cfg.work_dir).name}-{_hash(str(Path(cfg.work_dir).resolve()))}'
    runner = FinetuneRunner.from_cfg(cfg)
    handoff = HandoffHook(target, state, source, meta, check_input, allow_partial)
    progress = ProgressHook()
    for hook in (handoff, progress):   # not by the config, which Runner copies and writes out
        runner.register_hook(hook)
    runner.train()
    scores = target.main_scores(progress.metrics)
    if not scores:
        raise RuntimeError(f'the evaluation gave no scores: {progress.metrics}')
    return {'scores': scores, 'metrics': {key: round(float(value), 4) for key, value
                                          in progress.metrics.items()},
            'handoff': handoff.report, 'iterations': runner.iter}


def _announce(lines: dict[str, list[str]], backbone: str | Path, meta: dict[str, Any] | None
              ) -> None:
    what = RANDOM if meta is None else (
        f'{backbone}: {meta["backbone"]["type"]}, {meta["method"]}, '
        f'{meta.get("epochs", "?")} epochs on {meta.get("data", "?")}')
    _print(f'device: {get_device()}\nbackbone: {what}')
    for title, texts in lines.items():
        for text in texts:
            _print(f'{title}: {text}')


def _default_folder(config: str, backbone: str | Path, fraction: float, seed: int) -> str:
    stem = backbone if backbone == RANDOM else Path(backbone).stem
    return f'work_dirs/{Path(config).stem}-{stem}-{fraction:g}-seed{seed}'


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _words(scores: dict[str, float]) -> str:
    return '  '.join(f'{name} {value:.2f}' for name, value in scores.items())


def _print(text: str) -> None:
    if os.environ.get('RANK', '0') == '0':
        print(text, flush=True)
