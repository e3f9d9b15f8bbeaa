"""The cells that score weights: probes of frozen features, and fine-tuning."""
from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from densessl.benchmark.plan import lengthened
from densessl.config import load_config
from densessl.errors import UsageError
from densessl.files.json_files import read_json_object
from densessl.finetune.run_folder import config_digest, read_scores
from densessl.study.cells import Cell, Command, Place, Run, options_of, words_of
from densessl.study.plan import RANDOM, Evaluation, Weights
from densessl.study.pretraining import Pretraining

REMEDY = 'delete its folder, and the cell is done again'


@dataclass(frozen=True)
class Scoring(Cell):
    """The scores of weights on labelled images.

    Attributes:
        weights: where they are from. pretraining: the cell that makes them; None if none does.
        like: the cell whose network and input random weights get, if there is one.
        digest: of the labelled images; None if a cell makes them.
    """

    weights: Weights = field(kw_only=True)
    evaluation: Evaluation = field(kw_only=True)
    seed: int = field(kw_only=True)
    digest: str | None = field(kw_only=True)
    weights_digest: str | None = field(kw_only=True, default=None)
    pretraining: Pretraining | None = field(kw_only=True, default=None)
    like: Pretraining | None = field(kw_only=True, default=None)
    kind = 'evaluation'

    @property
    def settings(self) -> dict[str, Any]:
        weights = (None if self.pretraining else
                   self.weights.backbone if self.weights.weights == RANDOM else self.weights_digest)
        return {'weights': weights, 'data': self.evaluation.data, 'digest': self.digest,
                'fraction': self.evaluation.fraction, 'seed': self.seed}

    @property
    def similar(self) -> str:
        one = self.evaluation
        return f'{one.probe or one.finetune} {one.data} {one.fraction} {one.length} {self.kind}'

    def file(self, place: Place) -> str:
        """What a command takes as the weights."""
        if self.pretraining is not None:
            return str(self.pretraining.backbone(place))
        return RANDOM if self.weights.weights == RANDOM else str(place.path(self.weights.weights))


@dataclass(frozen=True)
class Probe(Scoring):
    """Frozen features."""

    minutes: float = 0.7
    kind = 'probe'

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, 'probe': self.evaluation.probe,
                'arguments': dict(self.evaluation.arguments)}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        if runs:
            return None
        one = self.evaluation
        network = (['--backbone-type', self.weights.backbone]
                   if self.weights.weights == RANDOM else [])
        part = ['--fraction', repr(one.fraction)] if one.fraction < 1 else []
        return ['probe', self.file(place), *network, '--data', str(place.path(one.data)),
                '--kind', one.probe, *part, '--seed', str(self.seed), '--workers', '0',
                '--out', str(self._out(place)), *words_of(one.arguments, place)]

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        found = read_json_object(self._out(place), ('results', 'data'), remedy=REMEDY)
        line, = found['results']
        return {'scores': line['scores'], 'by_class': line.get('iou', {}),
                'labelled_images': found['data']['training images']}

    def _out(self, place: Place) -> Path:
        return self.folder(place) / 'probe.json'


@dataclass(frozen=True)
class Downstream:
    """A downstream config with its overrides, read once for all weights and seeds."""

    config: str
    evaluation: Evaluation

    @cached_property
    def options(self) -> dict[str, Any]:
        """The overrides, the length included."""
        one = self.evaluation
        given = dict(one.options)
        return given if one.length == 1 else given | lengthened(
            load_config(self.config, given), one.length)

    @cached_property
    def digest(self) -> str:
        """Of the resolved config."""
        return config_digest(load_config(self.config, self.options))


@dataclass(frozen=True)
class Finetuning(Scoring):
    """A downstream model, trained from the weights."""

    downstream: Downstream = field(kw_only=True)
    minutes: float = 4.0
    kind = 'finetuning'
    resumes = True

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, 'config_hash': self.downstream.digest}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        if runs:
            return None
        one = self.evaluation
        like = ['--like', str(self.like.backbone(place))] if self.like else []
        return ['finetune', self.downstream.config, '--backbone', self.file(place), *like,
                '--data-root', str(place.path(one.data)), '--fraction', repr(one.fraction),
                '--seed', str(self.seed), '--work-dir', str(self.folder(place) / 'run'), '--resume',
                *options_of(self.downstream.options, place)]

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        found = read_scores(self.folder(place) / 'run', remedy=REMEDY)
        missing = [name for name in self.evaluation.scores if name not in found['scores']]
        if missing:
            raise UsageError(f'evaluations.{self.evaluation.name}.scores: there is no '
                             f'{missing[0]!r}; there are: {", ".join(found["scores"])}')
        subset = read_json_object(self.folder(place) / 'run' / 'subset.json', ('images',),
                                  remedy=REMEDY)
        return {'scores': found['scores'], 'labelled_images': len(subset['images']),
                'iterations': found.get('iterations')}

    def tidy(self, place: Place) -> None:
        for path in (self.folder(place) / 'run').glob('*.pth'):
            path.unlink()
        for path in (self.folder(place) / 'run').glob('*/vis_data'):
            shutil.rmtree(path, ignore_errors=True)
