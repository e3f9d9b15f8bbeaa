"""What a benchmark compares on what: its runs, before any of them starts."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.benchmark.starts import START, Starts, find_starts
from densessl.errors import UsageError
from densessl.finetune.image_loading import rule_for
from densessl.finetune.run import FinetuneRun
from densessl.finetune.weights import Weights
from densessl.pixels.pixel_rule import PLAIN
from densessl.weights.backbone_file import RANDOM

SUPERVISED = 'supervised'
MOST_SEEDS, LONGEST = 10 ** 4, 10 ** 4


@dataclass(frozen=True)
class Run:
    """One fine-tuning run: where it starts from, on how many labels, how long, and by what seed."""

    initialization: str
    fraction: float
    length: float
    seed: int

    @property
    def name(self) -> str:
        length = '' if self.length == 1 else f'-length{self.length:g}'
        return f'{self.initialization}-fraction{self.fraction:g}{length}-seed{self.seed}'

    def __str__(self) -> str:
        length = '' if self.length == 1 else f', {self.length:g}× as long'
        return (f'{self.initialization}, {self.fraction * 100:g} % of the labels{length}, '
                f'seed {self.seed}')


@dataclass(frozen=True)
class Baseline:
    """What random weights are like.

    Attributes:
        like: the initialization whose network and input they have; None if nothing is compared
            with them, and they have the config's own.
        digest: of that network and input; None if they are those of random weights alone
            (:func:`densessl.finetune.weights.likeness`).
        network, input: the backbone and the data preprocessor, as the recipe left them.
        differing: each initialization with another network or input → what is other in it.
    """

    like: str | None = None
    digest: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    input: dict[str, Any] = field(default_factory=dict)
    differing: dict[str, list[str]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For ``results.json``: plain values."""
        return json.loads(json.dumps(asdict(self), default=str))


@dataclass
class Benchmark:
    """What to compare on what.

    Attributes:
        config: path or name of a downstream config.
        backbones: name → exported file; random weights are always added.
        fractions: of the labelled training images, in (0, 1].
        seeds: how many: 0 … seeds − 1. A seed draws the subset and the training, so scores of the
            same seed are pairs.
        lengths: of the fine-tuning, as multiples of the config's own.
        folder: of all runs and results.
        data_root: the labelled data set; the config's own if None.
        supervised: an exported file of supervised weights.
        options: overrides of the config by dotted key.
        keep: recipe lines to leave as in the config.
        freeze: how many stages stay as loaded, besides the stem; None: all is trained.
        allow_partial: go on when weights or features do not match.
        score: which of the evaluation's; the first if None.
        use_start: whether what the backbones started from is put beside them.
        start: an exported file of that; looked for beside the backbones if None.
        pixels: ``value_range`` and ``bands`` of all runs; those of the first backbone that has any
            if they are empty, so that all see the same images.
        baseline: what random weights are like; known once the inputs are checked.
    """

    config: str
    backbones: dict[str, str]
    fractions: Sequence[float]
    folder: Path
    seeds: int = 3
    lengths: Sequence[float] = (1.0,)
    data_root: str | None = None
    supervised: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    keep: Sequence[str] = ()
    freeze: int | None = None
    allow_partial: bool = False
    score: str | None = None
    pixels: dict[str, Any] = field(default_factory=dict)
    use_start: bool = True
    start: str | None = None
    baseline: Baseline = field(default_factory=Baseline, init=False)

    def __post_init__(self) -> None:
        self.fractions = _increasing('--fractions', self.fractions, 1.0)
        self.lengths = _increasing('--lengths', self.lengths, LONGEST)
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise UsageError(f'--seeds {self.seeds}: at least 1 and at most {MOST_SEEDS}')
        for name in self.backbones:
            if name in (RANDOM, SUPERVISED) or name.partition('-of-')[0] == START:
                raise UsageError(f'--backbones: the name {name!r} is taken; random weights are '
                                 f'always compared, others of that name go to --{SUPERVISED} or '
                                 f'--{START}')
            if not re.fullmatch(r'[\w.+-]+', name):
                raise UsageError(f'--backbones: the name {name!r} may only have letters, digits '
                                 f'and . + - _')
        self.files: dict[str, str | None] = {RANDOM: None}
        if self.supervised:
            self.files[SUPERVISED] = self.supervised
        self.files.update(self.backbones)
        self.weights = {name: Weights.load(file) for name, file in self.files.items() if file}
        metas = {name: weights.meta for name, weights in self.weights.items()}
        self.starts = find_starts(self.backbones, metas, self.start) if self.use_start else Starts()
        for name, path in self.starts.files.items():
            self.files[name], self.weights[name] = str(path), Weights.load(path)
        recorded = [rule_for(self.weights[name].meta, self.pixels)
                    for name in (*self.backbones, *self.weights)] or [rule_for(None, self.pixels)]
        self.rule = next((rule for rule in recorded if rule != PLAIN), PLAIN)

    def runs(self) -> Iterator[Run]:
        """All runs, a whole seed before the next, so that an early end leaves whole pairs."""
        for seed in range(self.seeds):
            for length in self.lengths:
                for fraction in self.fractions:
                    for name in self.files:
                        yield Run(name, fraction, length, seed)

    def run_folder(self, run: Run) -> Path:
        """Where a run is kept."""
        return self.folder / 'runs' / run.name

    def finetuning(self, run: Run, options: dict[str, Any]) -> FinetuneRun:
        """A run as ``finetune`` does it.

        Args:
            options: :meth:`options_of` its length.
        """
        weights = self.weights.get(run.initialization)
        return FinetuneRun(
            self.config, weights, self.data_root, run.fraction, run.seed, options, self.keep,
            self.freeze, None if weights else self.weights.get(self.baseline.like), self.rule,
            self.allow_partial, self.run_folder(run))

    def options_of(self, length: float, cfg: Config) -> dict[str, Any]:
        """The overrides that make the fine-tuning ``length`` times that of ``cfg``."""
        return self.options if length == 1 else {**self.options, **lengthened(cfg, length)}


def lengthened(cfg: Config, length: float) -> dict[str, int]:
    """The overrides that make the training of a downstream config ``length`` times as long."""
    unit = 'max_iters' if cfg.train_cfg.get('max_iters') else 'max_epochs'
    return {f'train_cfg.{key}': max(1, round(cfg.train_cfg[key] * length))
            for key in (unit, 'val_interval') if cfg.train_cfg.get(key)}


def _increasing(option: str, values: Sequence[float], most: float) -> list[float]:
    for value in values:
        if not 0 < value <= most:
            raise UsageError(f'{option} {value:g}: above 0 and at most {most:g}')
    if not values:
        raise UsageError(f'{option}: at least one')
    return sorted(set(values))
