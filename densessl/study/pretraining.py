"""The cells that make weights: masks, what a step costs, pretraining; and drawn label maps."""
from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.files import write_text
from densessl.images.find import find_images
from densessl.registry import METHODS
from densessl.study.cells import Cell, Command, Place, Run, options_of
from densessl.study.plan import Source, Weights
from densessl.training.configured import configure
from densessl.training.decisive_settings import leaves_of, settings_of
from densessl.weights.backbone_file import load_backbone_file

BACKBONE = 'backbone.pth'
MEASURABLE = 20.0   # seconds by which two runs must differ
LONGER, MOST_RUNS = 4, 4
CHECKPOINTS = 8     # of a pretraining: what is lost by a kill is an eighth of it
OURS = {'train_dataloader.num_workers': 0, 'checkpoint.keep': 1}


@dataclass(frozen=True)
class Recipe:
    """A pretraining as the file names it, resolved: what every run of it shares."""

    weights: Weights

    @cached_property
    def cfg(self) -> Any:
        """The config with its overrides.

        Raises:
            UsageError: it is wrong; nothing has been started yet.
        """
        given = {**OURS, **self.weights.options}
        return configure(self.weights.config, given).cfg

    @property
    def batch(self) -> int:
        """Images an update."""
        return self.cfg.train_dataloader.get('batch_size') or self.cfg.global_batch

    @cached_property
    def masks(self) -> dict[str, Any] | None:
        """Generator and parameters of its region masks; None if it takes none."""
        if not METHODS.get(self.cfg.model.type).needs_masks:
            if self.weights.masks:
                raise UsageError(f'pretrainings.{self.weights.name}.masks: '
                                 f'{self.weights.config} takes no region masks; leave it out')
            return None
        if self.weights.masks:
            return dict(self.weights.masks)
        return self.cfg.masks.to_dict()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the weights, but for data, length and seed."""
        found = {key: value for key, value in settings_of(self.cfg).items()
                 if not key.startswith('masks')}
        return {**found, **leaves_of(self.cfg, ('global_batch',)), 'batch': self.batch,
                'masks': self.masks}

    def train(self, place: Place, images: Path, count: int, folder: Path, steps: int,
              options: Mapping[str, Any], masks: Path | None) -> Command:
        """The command that pretrains for ``steps`` updates."""
        epochs = (steps + 0.5) * self.batch / count     # half a step more: the rest is cut off
        given = {**OURS, 'checkpoint.every_epochs': epochs / CHECKPOINTS, **self.weights.options,
                 **options}
        return ['train', self.weights.config, '--data', str(images), '--work-dir', str(folder),
                '--epochs', f'{epochs:.9g}', '--resume',
                *(['--masks', str(masks)] if masks else []), *options_of(given, place)]


def image_source(data: Sequence[str], place: Place) -> Path:
    """What ``--data`` takes: the folder, or of several a list of all their images."""
    if len(data) == 1:
        return place.path(data[0])
    path = place.folder / 'lists' / f'{"+".join(data).replace("/", "-")}.txt'
    lists = [find_images(place.path(one)) for one in data]
    text = '\n'.join(str(one.path(i)) for one in lists for i in range(len(one))) + '\n'
    if not path.is_file() or path.read_text(encoding='utf-8') != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path


@dataclass(frozen=True)
class LabelMaps(Cell):
    """Label maps drawn from annotations in COCO's format."""

    source: Source = field(kw_only=True)
    digest: str | None = field(kw_only=True)
    kind = 'label_maps'

    @property
    def settings(self) -> dict[str, Any]:
        return {'of': self.source.label_maps_of, 'digest': self.digest,
                'classes': list(self.source.classes)}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        classes = ['--classes', *self.source.classes] if self.source.classes else []
        return None if runs else ['make_label_maps', str(place.path(self.source.label_maps_of)),
                                  str(self.made(place)), *classes]

    def made(self, place: Place) -> Path:
        """The folder of images and label maps."""
        return self.folder(place) / 'data'

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class OfRecipe(Cell):
    """A cell that runs a recipe on images."""

    recipe: Recipe = field(kw_only=True)
    digests: tuple[str | None, ...] = field(kw_only=True)

    @property
    def data(self) -> dict[str, Any]:
        return {'data': list(self.recipe.weights.data), 'digests': list(self.digests)}

    def images(self, place: Place) -> tuple[Path, int]:
        """What ``--data`` takes, and how many images that are."""
        source = image_source(self.recipe.weights.data, place)
        return source, len(find_images(source))

    def store(self, place: Place) -> Path | None:
        """The masks that were made for it; None if it takes none."""
        made = [one for one in self.after if isinstance(one, Masks)]
        return made[0].folder(place) / 'masks' if made else None


@dataclass(frozen=True)
class Masks(OfRecipe):
    """Region masks of the images, made once for all who use them."""

    minutes: float = 0.5
    kind = 'masks'
    resumes = True

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.data, 'masks': self.recipe.masks}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        if runs:
            return None
        spec = dict(self.recipe.masks)
        kind = spec.pop('type')
        parameters = [f'{key}={place.filled(value)}' for key, value in spec.items()]
        return ['make_masks', str(self.images(place)[0]), str(self.folder(place) / 'masks'),
                '--generator', kind, '--workers', str(place.threads),
                *(['--set', *parameters] if parameters else [])]

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        return {'masks': self.recipe.masks, 'images': self.images(place)[1]}


@dataclass(frozen=True)
class Calibration(OfRecipe):
    """What a step costs, from two short runs: the start of a process cancels out. The second one
    is made longer until the difference is long enough to be measured."""

    steps: tuple[int, int] = field(kw_only=True)
    machine: str = field(kw_only=True)
    threads: int = field(kw_only=True)
    kind = 'calibration'

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.recipe.settings, **self.data, 'steps': list(self.steps),
                'machine': self.machine, 'threads': self.threads}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        source, count = self.images(place)
        if len(runs) > 1 and (runs[-1]['cpu_seconds'] - runs[0]['cpu_seconds'] >= MEASURABLE
                              or len(runs) > MOST_RUNS):
            return None
        folder = self.folder(place) / f'run{len(runs)}'
        shutil.rmtree(folder, ignore_errors=True)   # a part of a run would cost less than a run
        return self.recipe.train(place, source, count, folder, self.lengths(len(runs) + 1)[-1],
                                 {}, self.store(place))

    def lengths(self, number: int) -> list[int]:
        """The steps of so many runs."""
        few, many = self.steps
        return [few, *(many * LONGER ** i for i in range(number - 1))]

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        lengths, costs = self.lengths(len(runs)), [run['cpu_seconds'] for run in runs]
        a_step = (costs[-1] - costs[0]) / (lengths[-1] - lengths[0])
        if a_step <= 0:
            raise UsageError(f'{lengths[-1]} steps took no more CPU time than {lengths[0]}: give a '
                             f'longer calibration in the file')
        return {'steps': lengths, 'cpu_seconds_of_runs': costs, 'cpu_seconds_a_step': a_step,
                'cpu_seconds_to_start': max(0.0, costs[0] - lengths[0] * a_step)}

    def tidy(self, place: Place) -> None:
        for folder in self.folder(place).glob('run*'):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Pretraining(OfRecipe):
    """A backbone, pretrained with a seed."""

    seed: int = field(kw_only=True)
    kind = 'pretraining'
    resumes = True

    @property
    def settings(self) -> dict[str, Any]:
        length = {'cpu_minutes': self.recipe.weights.cpu_minutes,
                  'epochs': self.recipe.weights.epochs}
        return {**self.recipe.settings, **self.data, **length, 'seed': self.seed}

    @property
    def similar(self) -> str:
        return f'{self.kind} {self.recipe.weights}'

    def backbone(self, place: Place) -> Path:
        """The exported file."""
        return self.folder(place) / BACKBONE

    def steps(self, place: Place, count: int) -> int:
        """How many updates: as the file says, or as many as its CPU time is enough for, its masks
        and the start of the process included."""
        weights = self.recipe.weights
        if weights.cpu_minutes is None:
            return max(1, int(weights.epochs * count // self.recipe.batch))
        left = 60 * weights.cpu_minutes
        for one in self.after:
            record = one.record(place)
            if isinstance(one, Masks):
                left -= record['cpu_seconds']
            elif isinstance(one, Calibration):
                left -= record['cpu_seconds_to_start']
                a_step = record['cpu_seconds_a_step']
        steps = int(left // a_step)
        if steps < 1:
            raise UsageError(f'{weights.cpu_minutes:g} CPU-minutes are not enough for one step of '
                             f'{a_step:.1f} s')
        return steps

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        source, count = self.images(place)
        folder, steps = self.folder(place), self.steps(place, count)
        if not runs:
            return self.recipe.train(place, source, count, folder / 'run', steps,
                                     {'seed': self.seed}, self.store(place))
        iterations = steps * self.recipe.cfg.optim_wrapper.get('accumulative_counts', 1)
        return None if len(runs) > 1 else [
            'export', str(folder / 'run' / f'iter_{iterations}.pth'), '--out',
            str(folder / BACKBONE), '--overwrite']

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        _, meta = load_backbone_file(self.backbone(place))
        found = {key: meta[key] for key in ('method', 'backbone', 'images', 'steps',
                                            'global_batch', 'sha256')}
        before = [one.record(place) for one in self.after]
        return {**found, 'epochs': round(meta['epochs'], 3),
                'images_seen': meta['steps'] * meta['global_batch'],
                'cpu_minutes_given': self.recipe.weights.cpu_minutes,
                'cpu_seconds_of_training': runs[0]['cpu_seconds'],
                'cpu_seconds_of_masks': sum(
                    record['cpu_seconds'] for one, record in zip(self.after, before, strict=True)
                    if isinstance(one, Masks)),
                'cpu_seconds_a_step_measured_before': next(
                    (record['cpu_seconds_a_step'] for record in before
                     if 'cpu_seconds_a_step' in record), None)}

    def tidy(self, place: Place) -> None:
        for path in (self.folder(place) / 'run').glob('*.pth'):
            path.unlink()
