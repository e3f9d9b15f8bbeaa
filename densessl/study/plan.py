"""What a study compares: pretrainings × data × evaluations × seeds."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

RANDOM = 'random'
FILLED = r'\{([\w.-]+)\}'      # a data set's name in an option, for its path
Published = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Source:
    """A data set by name; where it lies is said on the command line.

    Attributes:
        what, url: for those who are to get it.
        label_maps_of: the data set in COCO's format whose objects become its label maps.
        classes: of these label maps, by their categories' names.
    """

    what: str = ''
    url: str = ''
    label_maps_of: str | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A row of the tables: weights and what they cost.

    Attributes:
        config: of their pretraining; None for weights that are not trained here.
        weights: ``'random'``, or the data name of an exported file.
        backbone: of random weights. like: the pretraining whose network and input random weights
            have when they are fine-tuned.
        data: names of data sets, each with a folder in it after a slash.
        cpu_minutes: how long it may compute, its masks included. epochs: else how long it is.
        init: the data name of an exported backbone that the pretraining continues from.
        options: overrides of the config; ``{NAME}`` in a value is the path of that data.
        masks: generator and parameters in place of its own.
        minutes: an estimate of its cost. seeds: its own, if not all.
        same_weights: one pretraining, of the first seed, serves all seeds of the evaluations.
        published: evaluation → score → figure of the source.
    """

    name: str
    config: str | None = None
    weights: str | None = None
    backbone: str | None = None
    like: str | None = None
    data: tuple[str, ...] = ()
    cpu_minutes: float | None = None
    epochs: float | None = None
    init: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Any] | None = None
    minutes: float | None = None
    seeds: tuple[int, ...] | None = None
    same_weights: bool = False
    published: Published = field(default_factory=dict)
    note: str = ''

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the data that its pretraining reads beside its images."""
        named = [name for value in self.options.values() if isinstance(value, str)
                 for name in re.findall(FILLED, value)]
        return tuple(dict.fromkeys([*([self.init] if self.init else []), *named]))


@dataclass(frozen=True)
class Evaluation:
    """A group of columns of the tables, at one number of labels and one length.

    Attributes:
        probe: kind of probe. finetune: downstream config. One of the two.
        instead: name of weights → the downstream config that they take, as theirs is another
            network.
        fraction: of the labelled training images. length: multiple of the config's own.
        scores: those that are shown, headline first. arguments: of the probe. options: overrides
            of the downstream config. minutes: an estimate of its cost.
    """

    name: str
    data: str
    probe: str | None = None
    finetune: str | None = None
    instead: Mapping[str, str] = field(default_factory=dict)
    fraction: float = 1.0
    length: float = 1.0
    scores: tuple[str, ...] = ('mIoU',)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None


@dataclass(frozen=True)
class Study:
    """A study file, every list in it written out."""

    name: str
    title: str
    question: str
    device: str
    threads: int
    seeds: tuple[int, ...]
    sources: Mapping[str, Source]
    weights: tuple[Weights, ...]
    evaluations: tuple[Evaluation, ...]
    against: str | None
    calibration: tuple[int, int]
    published_in: str
    readme: bool
    masks_on: str | None


def share(fraction: float) -> str:
    """``'all labels'``, ``'1/8 of the labels'`` or ``'30 % of the labels'``."""
    if fraction == 1:
        return 'all labels'
    parts = Fraction(fraction).limit_denominator(1000)
    return f'{parts if parts.numerator == 1 else f"{100 * fraction:g} %"} of the labels'
