"""A pretraining run as its work folder tells it. Every file may be absent, or cut short."""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from densessl.bounds import is_number
from densessl.errors import UsageError, shown
from densessl.files.json_files import json_object
from densessl.finetune.run_folder import SCORES, read_scores
from densessl.report.curves import Points, read_curves
from densessl.training.picture_hook import INDEX, PICTURES
from densessl.training.run_record import RECORD, begun_in
from densessl.watch.record import ALARMS, HEALTH, PROBES, read_lines


@dataclass(frozen=True)
class RecordedRun:
    """What is known of a run.

    Attributes:
        name: what the report calls it.
        facts: what it wrote down at its start; {} of older runs.
        figures: (iteration, value) by name: what was logged at each line, health among it.
        probes: a line a probe, with ``step``, ``mIoU``, ``propagation`` and ``start``; None if it
            has no file of them.
        alarms: with ``step``, ``name``, ``text`` and ``mend``; None if it has no file of them.
        pictures: what its pictures show; None if there are none.
        config: the text of its config, '' if that is gone.
        scores: of fine-tuning runs in its folder, by their folder's name.
    """

    folder: Path
    name: str
    facts: Mapping[str, Any]
    figures: Mapping[str, Points]
    probes: list[dict[str, Any]] | None
    alarms: list[dict[str, Any]] | None
    pictures: Mapping[str, Any] | None
    config: str
    scores: Mapping[str, Mapping[str, float | None]]

    @property
    def is_finished(self) -> bool:
        """Whether its last checkpoint is there, or the log goes to its end."""
        end = self.iterations
        return bool(end) and (self.logged >= end or (self.folder / f'iter_{end}.pth').exists())

    @property
    def last(self) -> int:
        """The last iteration that is known of."""
        return self.iterations if self.is_finished else self.logged

    @property
    def logged(self) -> int:
        """The last iteration that something was logged of."""
        steps = [points[-1][0] for points in self.figures.values() if points]
        return int(max([*steps, *(line['step'] for line in self.probes or ())], default=0))

    @property
    def iterations(self) -> int | None:
        """How many iterations it was to have."""
        return self.facts.get('iterations')

    @property
    def hours(self) -> float:
        """The time of training, from the logged seconds an iteration."""
        points = [(0, 0.0), *self.figures.get('time', [])]
        return sum(value * (step - earlier) for (earlier, _), (step, value) in pairwise(points)
                   if math.isfinite(value)) / 3600

    def get(self, *keys: str, default: Any = None) -> Any:
        """A nested fact, ``default`` if the run does not say."""
        found: Any = self.facts
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return default if found is None else found


def read_run(folder: Path, name: str | None = None) -> RecordedRun:
    """Read the work folder of a pretraining run, finished or not.

    Raises:
        UsageError: there is no such folder, or no pretraining run in it.
    """
    if not folder.is_dir():
        raise UsageError(f'{shown(str(folder))} is no folder: give the --work-dir of a run')
    facts = json_object(folder / RECORD) or {}
    figures = read_curves(folder, since=begun_in(folder) or '')
    health, alarms, probes = (read_lines(path) if path.is_file() else None for path in
                              (folder / HEALTH, folder / ALARMS, folder / PROBES))
    if alarms is None and health is not None:       # their file is made with the first one
        alarms = []
    for line in health or ():
        for key, value in line.items():
            if key != 'step' and isinstance(value, (int, float)):
                figures.setdefault(key, []).append((line['step'], value))
    figures = {key: sorted(dict(points).items()) for key, points in figures.items()
               if key not in ('step', 'iter', 'epoch')}
    if not facts and not figures:
        raise UsageError(f'{shown(str(folder))} holds no pretraining run: neither {RECORD} nor a '
                         f'log (TIME/vis_data/scalars.json) is in it; give the --work-dir of '
                         f'densessl train')
    pictures = json_object(folder / PICTURES / INDEX)
    return RecordedRun(
        folder, name or folder.resolve().name, facts, figures,
        None if probes is None else [line for line in probes if is_number(line.get('mIoU'))],
        alarms, pictures if pictures and isinstance(pictures.get('steps'), list) else None,
        _config_text(folder), _scores(folder))


def _config_text(folder: Path) -> str:
    """The config that mmengine keeps beside a run's logs: that of its last start."""
    kept = sorted(folder.glob('*/vis_data/config.py'))
    try:
        return kept[-1].read_text(encoding='utf-8', errors='replace') if kept else ''
    except OSError:
        return ''


def _scores(folder: Path) -> dict[str, dict[str, float | None]]:
    found = {}
    for path in sorted([*folder.glob(f'*/{SCORES}'), *folder.glob(f'*/*/{SCORES}')]):
        try:
            found[str(path.parent.relative_to(folder))] = read_scores(path.parent)['scores']
        except UsageError:      # damaged, or another's file: it has no score to show
            continue
    return found
