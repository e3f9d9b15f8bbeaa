"""The cells that pretrain: what a step costs, and the backbones."""
from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densessl.errors import UsageError
from densessl.study.cells import Cell, Command, Place, Run
from densessl.study.recipe import Masks, OfRecipe
from densessl.weights.backbone_file import load_backbone_file

BACKBONE = 'backbone.pth'
MEASURABLE = 15.0   # seconds by which two runs must differ
MOST_RUNS = 4
MOST_GROWTH = 16    # of a run's steps, from one to the next: short differences deceive


@dataclass(frozen=True)
class Calibration(OfRecipe):
    """What a step costs, from two short runs: the start of a process cancels out. The second one
    is made longer until the difference is long enough to be measured. The other is the cheapest of
    the shorter ones: the first may pay for a cache, such as a teacher's features, which counts as
    its start."""

    steps: tuple[int, int] = field(kw_only=True)
    machine: str = field(kw_only=True)
    threads: int = field(kw_only=True)
    kind = 'calibration'

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.recipe.settings, **self.data, **self.start, 'steps': list(self.steps),
                'machine': self.machine, 'threads': self.threads}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        source, count = self.images(place)
        steps = self.lengths(runs)
        if len(steps) == len(runs):
            return None
        folder = self.folder(place) / f'run{len(runs)}'
        shutil.rmtree(folder, ignore_errors=True)   # a part of a run would cost less than a run
        return self.recipe.train(place, source, count, folder, steps[-1], {}, self.store(place))

    def lengths(self, runs: Sequence[Run]) -> list[int]:
        """The steps of the runs that were done, and of the next one if there is one."""
        steps = list(self.steps)
        while len(steps) < MOST_RUNS and len(runs) >= len(steps):
            costs = [run['cpu_seconds'] for run in runs[:len(steps)]]
            base = int(np.argmin(costs[:-1]))
            longer = costs[-1] - costs[base]
            if longer >= MEASURABLE:
                break
            a_step = max(longer / (steps[-1] - steps[base]), MEASURABLE / 1000)
            wanted = steps[-1] + math.ceil(1.5 * MEASURABLE / a_step)
            steps.append(min(wanted, MOST_GROWTH * steps[-1]))
        return steps[:len(runs) + 1]

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        steps, costs = self.lengths(runs), [run['cpu_seconds'] for run in runs]
        base = int(np.argmin(costs[:-1]))
        a_step = (costs[-1] - costs[base]) / (steps[-1] - steps[base])
        if a_step <= 0:
            raise UsageError(f'{steps[-1]} steps took no more CPU time than {steps[base]}: give a '
                             f'longer calibration in the file')
        return {'steps': steps, 'cpu_seconds_of_runs': costs, 'cpu_seconds_a_step': a_step,
                'cpu_seconds_to_start': max(0.0, costs[0] - steps[0] * a_step)}

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
        return {**self.recipe.settings, **self.data, **self.start, **length, 'seed': self.seed}

    @property
    def decided_by(self) -> tuple[Cell, ...]:
        """None: its settings say data and masks, and what a step costs is another machine's
        affair: weights that were made there are not made again."""
        return ()

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
        measured = self.before(Calibration).record(place)
        a_step = measured['cpu_seconds_a_step']
        left = 60 * weights.cpu_minutes - self._seconds_of_masks(place)
        steps = int((left - measured['cpu_seconds_to_start']) // a_step)
        if steps < 1:
            raise UsageError(f'{weights.cpu_minutes:g} CPU-minutes are not enough for one step of '
                             f'{a_step:.1f} s')
        return steps

    def _seconds_of_masks(self, place: Place) -> float:
        masks = self.before(Masks)
        return masks.record(place)['cpu_seconds'] if masks else 0

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
        calibration = self.before(Calibration)
        return {**found, 'epochs': round(meta['epochs'], 3),
                'images_seen': meta['steps'] * meta['global_batch'],
                'cpu_minutes_given': self.recipe.weights.cpu_minutes,
                'cpu_seconds_of_training': runs[0]['cpu_seconds'],
                'cpu_seconds_of_masks': self._seconds_of_masks(place),
                'cpu_seconds_a_step_measured_before': (
                    calibration.record(place)['cpu_seconds_a_step'] if calibration else None)}

    def products(self, place: Place) -> list[Path]:
        return [self.backbone(place)]

    def tidy(self, place: Place) -> None:
        for path in (self.folder(place) / 'run').glob('*.pth'):
            path.unlink()
