"""The small runs that are tortured, and how a run that was is told from one that was not."""
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densessl.config import load_config
from densessl.demo.sample import write_scenes
from densessl.engine.checkpoint_file import damage, numbered, read_checkpoint
from densessl.files.writing import is_leftover
from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.registry import MASK_GENERATORS

STEPS = 6
# method → config, and what makes it small beyond the size of its views
METHODS = {
    'detcon': ('small/detcon_r18', ['model.projection=[16,8]', 'model.num_regions=4']),
    'detcon_s': ('small/detcon_s_r18', ['model.projection=8', 'model.num_regions=4']),
    'simclr': ('small/simclr_r18', ['model.projection=8']),
    'moco': ('small/moco_r18', ['model.queue=16']),
    'byol': ('small/byol_r18', []),
    'supervised': ('small/supervised_r18', []),
    'rotation': ('small/rotation_r18', []),
    'relative_location': ('small/relative_location_r18', ['model.hidden=16']),
    'jigsaw': ('small/jigsaw_r18', ['model.permutations=4', 'model.code=8']),
    'cpc': ('small/cpc_r18', ['model.hidden=8', 'model.blocks=1']),
}
FINETUNE, BENCHMARK = 'finetune', 'benchmark'
FINETUNE_OPTIONS = [
    f'train_cfg.max_iters={STEPS}', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
    'model.data_preprocessor.size=(32,32)', 'model.backbone.base_channels=8',
    'model.decode_head.in_channels=64', 'model.decode_head.channels=8',
    'train_dataloader.dataset.pipeline.2.scale=(3200,40)',
    'val_dataloader.dataset.pipeline.1.scale=(3200,40)',
    'train_dataloader.dataset.pipeline.3.crop_size=(32,32)',
    'default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.save_best=mIoU']


@dataclass(frozen=True)
class Job:
    """A kind of run.

    Attributes:
        name: of the method or command.
        command: (work folder, how many checkpoints to keep) → arguments of ``densessl``.
        compare: (folder, folder of the undisturbed run) → what is wrong, or ``''``.
        exact: whether it is compared to the bit.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    compare: Callable[[Path, Path], str]
    exact: bool


def make_data(folder: Path) -> None:
    """Images in folders of classes, and the same with label maps."""
    sample = write_scenes(folder / 'sample', unlabelled=8, train=6, val=2, size=(48, 48))
    for i, path in enumerate(sorted((sample / 'unlabelled').iterdir())):
        place = folder / 'images' / 'ab'[i % 2] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    make_masks(find_images(folder / 'images'), folder / 'masks',
               MASK_GENERATORS.build(dict(type='grid', rows=2, cols=2)), workers=1, progress=False)


def jobs(names: list[str], data: Path) -> list[Job]:
    """The runs of these methods and commands, on what :func:`make_data` made in ``data``."""
    commands = {FINETUNE: (_finetune(data), _completed), BENCHMARK: (_benchmark(data), _results)}
    return [Job(name, *commands[name], False) if name in commands else
            Job(name, _train(name, data), _same_bits, True) for name in names]


def _train(method: str, data: Path) -> Callable[[Path, int], list[str]]:
    config, small = METHODS[method]
    masks = ['--masks', str(data / 'masks')] if load_config(config).get('masks') else []
    views = ['views.0.size=32', 'views.1.size=32'][:len(_views(config))] if 'size' in _views(
        config)[0] else _patches(_views(config)[0])
    options = [*views, 'model.backbone={"_delete_": True, "type": "timm.test_resnet"}',
               'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0', 'log_interval=1',
               'visualizer=None', 'checkpoint.every_epochs=0.5', *small]
    return lambda folder, keep: [
        'train', config, '--data', str(data / 'images'), '--work-dir', str(folder), '--epochs',
        str(STEPS // 2), *masks, '--resume', '--cfg-options', *options, f'checkpoint.keep={keep}']


def _benchmark(data: Path) -> Callable[[Path, int], list[str]]:
    return lambda folder, keep: [
        BENCHMARK, 'downstream/fcn_r18_folder', '--data-root', str(data / 'sample'), '--fractions',
        '0.5', '1', '--seeds', '1', '--work-dir', str(folder), '--cfg-options', *FINETUNE_OPTIONS,
        f'default_hooks.checkpoint.max_keep_ckpts={keep}']


def _views(config: str) -> list[dict[str, Any]]:
    return load_config(config).views


def _patches(view: dict[str, Any]) -> list[str]:
    side = 16
    whole = view['grid'] * (side + max(view.get('gap', 0) // 2, view.get('shift', 0) // 4))
    return [f'views.0.patch={side}', f'views.0.resize={whole + 16}',
            f'views.0.shift={view.get("shift", 0) // 4}',
            *(['views.0.gap=-8', 'views.0.inner=15'] if 'gap' in view else [])]


def _finetune(data: Path) -> Callable[[Path, int], list[str]]:
    return lambda folder, keep: [
        FINETUNE, 'downstream/fcn_r18_folder', '--backbone', 'random', '--data-root',
        str(data / 'sample'), '--work-dir', str(folder), '--resume', '--cfg-options',
        *FINETUNE_OPTIONS, f'default_hooks.checkpoint.max_keep_ckpts={keep}']


def _same_bits(folder: Path, reference: Path) -> str:
    """Weights, optimizer state and facts of the last checkpoint are those of the other run."""
    ours, theirs = (numbered(one) for one in (folder, reference))
    if [path.name for path in ours] != [path.name for path in theirs]:
        return f'ended with {", ".join(path.name for path in ours) or "no checkpoint"}'
    one, two = (read_checkpoint(paths[-1]) for paths in (ours, theirs))
    for content in (one, two):
        content['meta'].pop('time')
    return _difference('', one, two) or _untidy(folder)


def _completed(folder: Path, reference: Path) -> str:
    """All that the other run left behind is there: scores, checkpoints, the best of them."""
    if not (folder / 'scores.json').is_file():
        return 'no scores'
    one, two = (json.loads((path / 'scores.json').read_text()) for path in (folder, reference))
    if one['iterations'] != two['iterations'] or one['scores'].keys() != two['scores'].keys():
        return f'{one["iterations"]} iterations, scores {list(one["scores"])}'
    ours, theirs = (sorted(re.sub(r'(best.*_)\d+', r'\1N', path.name)
                           for path in one_folder.glob('*.pth'))
                    for one_folder in (folder, reference))
    if ours != theirs:
        return f'holds {", ".join(ours)}, not {", ".join(theirs)}'
    broken = [path.name for path in folder.glob('*.pth') if damage(path)]
    return f'{broken[0]} is damaged' if broken else _untidy(folder)


def _results(folder: Path, reference: Path) -> str:
    """Every run has its scores in the results."""
    if not (folder / 'results.json').is_file():
        return 'no results'
    one, two = (json.loads((path / 'results.json').read_text()) for path in (folder, reference))
    done, wanted = ([(run['initialization'], run['fraction'], run['iterations'])
                     for run in results['runs']] for results in (one, two))
    return f'{len(done)} of {len(wanted)} runs' if done != wanted else _untidy(folder)


def _untidy(folder: Path) -> str:
    left = [path.name for path in folder.iterdir()
            if is_leftover(path.name) or path.name == '.running']
    return f'{left[0]} was left behind' if left else ''


def _difference(where: str, one: Any, two: Any) -> str:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        same = one.dtype == two.dtype and torch.equal(one, two)
    elif isinstance(one, dict) and isinstance(two, dict):
        if one.keys() != two.keys():
            return f'{where}: other keys'
        return next((found for key in one
                     if (found := _difference(f'{where}.{key}', one[key], two[key]))), '')
    else:
        same = repr(one) == repr(two)
    return '' if same else f'{where.lstrip(".")} differs'
