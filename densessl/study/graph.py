"""All cells of a study, the most telling first, and what they are estimated to cost."""
from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from densessl.study.cells import DONE, Cell, Place
from densessl.study.evaluating import Downstream, Finetuning, Probe, Scoring
from densessl.study.mask_quality import MaskQuality
from densessl.study.plan import RANDOM, Evaluation, Study, Weights, share
from densessl.study.pretraining import Calibration, Pretraining
from densessl.study.recipe import DrawnLabels, Masks, Recipe


@dataclass
class Graph:
    """The cells of a study.

    Attributes:
        order: every cell after those that it builds on; otherwise the most telling first.
        scorings: those that fill the tables. mask_qualities: by row.
    """

    order: list[Cell] = field(default_factory=list)
    scorings: list[Scoring] = field(default_factory=list)
    mask_qualities: dict[str, MaskQuality] = field(default_factory=dict)

    def add(self, cell: Cell) -> None:
        """Append a cell, what it builds on first; none twice."""
        known = {one.id for one in self.order}
        if cell.id not in known:
            for one in cell.after:
                self.add(one)
            self.order.append(cell)

    def to_do(self, place: Place) -> list[Cell]:
        """The cells that are not done, and those of which they need a file that is not there: only
        its record may have been brought here from another machine."""
        wanted: set[str] = set()
        for cell in reversed(self.order):
            if cell.id in wanted or not cell.is_done(place):
                wanted.add(cell.id)
                wanted |= {one.id for one in cell.after
                           if not all(path.exists() for path in one.products(place))}
        return [cell for cell in self.order if cell.id in wanted]


class _Builder:
    """Makes the cells, each once."""

    def __init__(self, study: Study, place: Place) -> None:
        self.study, self.place = study, place
        self.recipes = {id(weights): Recipe(weights) for weights in study.weights}
        self.downstream: dict[tuple[int, str], Downstream] = {}
        self.made = {name: DrawnLabels(f'label maps of {source.label_maps_of}', source=source,
                                     digest=place.digest(source.label_maps_of))
                     for name, source in study.sources.items() if source.label_maps_of}
        place.paths.update({name: cell.made(place) for name, cell in self.made.items()})

    def scoring(self, weights: Weights, evaluation: Evaluation, seed: int) -> Scoring:
        made_by = self.study.seeds[0] if weights.same_weights else seed
        pretraining = self.pretraining(weights, made_by) if weights.config else None
        like = (self.pretraining(self._named(weights.like), self.study.seeds[0])
                if weights.like and evaluation.finetune else None)
        maps = self.made.get(evaluation.data.partition('/')[0])
        part = f', {share(evaluation.fraction)}' if evaluation.fraction < 1 else ''
        part += f', {evaluation.length:g}× as long' if evaluation.length != 1 else ''
        minutes = {} if evaluation.minutes is None else {'minutes': evaluation.minutes}
        digest = None if weights.weights in (None, RANDOM) else self.place.digest(weights.weights)
        given = dict(
            label=f'{row_name(weights)}, seed {seed}: {evaluation.name}{part}',
            after=tuple(one for one in (pretraining, like, maps) if one), weights=weights,
            evaluation=evaluation, seed=seed, pretraining=pretraining, like=like,
            weights_digest=digest, digest=self.place.digest(evaluation.data), **minutes)
        if evaluation.probe:
            return Probe(**given)
        config = evaluation.instead.get(weights.name, evaluation.finetune)
        return Finetuning(**given, downstream=self.downstream.setdefault(
            (id(evaluation), config), Downstream(config, evaluation)))

    def pretraining(self, weights: Weights, seed: int) -> Pretraining:
        recipe = self.recipes[id(weights)]
        digests = tuple(self.place.digest(one) for one in weights.data)
        files = {name: self.place.digest(name) for name in weights.files}
        common = {'recipe': recipe, 'digests': digests}
        before: tuple[Cell, ...] = ()
        masks = recipe.masks
        if masks and 'store' not in masks:
            before += (Masks(f'masks by {masks["type"]} of {", ".join(weights.data)}', **common),)
        if weights.cpu_minutes is not None:
            before += (Calibration(f'{weights.name}: what a step costs', before,
                                   steps=self.study.calibration, machine=self.place.machine,
                                   threads=self.place.threads, files=files, **common),)
        minutes = weights.minutes or weights.cpu_minutes or 60.0
        return Pretraining(f'{row_name(weights)}, seed {seed}: pretraining', before,
                           minutes=minutes, seed=seed, files=files, **common)

    def mask_quality(self, weights: Weights) -> MaskQuality | None:
        """None for rows without masks, and for masks that are made for one data set alone."""
        recipe = self.recipes[id(weights)]
        if not weights.config or not recipe.masks or any('{' in str(value) for value in
                                                         recipe.masks.values()):
            return None
        name = self.study.masks_on
        return MaskQuality(f'{weights.name}: masks on {name}', recipe=recipe, data=name,
                           digest=self.place.digest(name))

    def _named(self, name: str) -> Weights:
        return next(one for one in self.study.weights if one.name == name)


def row_name(weights: Weights) -> str:
    """What a row of the tables is called."""
    if weights.cpu_minutes is None:
        return weights.name
    return f'{weights.name}, {weights.cpu_minutes:g} CPU-min'


def not_given(weights: Weights, place: Place) -> list[str]:
    """The names of the files that a row needs and that nobody has given: it stays blank."""
    files = {weights.weights, *weights.files} - {None, RANDOM}
    return sorted(files - set(place.paths))


def cells_of(study: Study, place: Place) -> Graph:
    """Every cell of a study. Seed by seed, evaluation by evaluation as the file has them, all
    weights: an early end leaves comparisons, not halves of many.

    Raises:
        UsageError: a config of it is wrong.
    """
    builder, graph = _Builder(study, place), Graph()
    for weights in study.weights if study.masks_on else ():
        cell = builder.mask_quality(weights)
        if cell is not None:
            graph.mask_qualities[row_name(weights)] = cell
            graph.add(cell)
    for position, _ in enumerate(study.seeds):
        for evaluation in study.evaluations:
            for weights in (one for one in study.weights if not not_given(one, place)):
                seeds = study.seeds if weights.seeds is None else weights.seeds
                if position < len(seeds):
                    cell = builder.scoring(weights, evaluation, seeds[position])
                    graph.scorings.append(cell)
                    graph.add(cell)
    return graph


class Estimates:
    """What cells will cost, in minutes of CPU time: as those like them did, else as the file says.
    """

    def __init__(self, cells: Sequence[Cell], place: Place) -> None:
        self.found: dict[str, list[float]] = {}
        for cell in cells:
            record = cell.record(place)
            if record is not None and record['status'] == DONE:
                self.add(cell, record['cpu_seconds'] / 60)

    def add(self, cell: Cell, minutes: float) -> None:
        """Take note of what a cell took."""
        self.found.setdefault(cell.similar, []).append(minutes)

    def minutes(self, cell: Cell) -> float:
        """The estimate of a cell."""
        found = self.found.get(cell.similar)
        return sum(found) / len(found) if found else cell.minutes


def finish_times(cells: Sequence[Cell], minutes: Mapping[str, float], jobs: int
                 ) -> dict[str, float]:
    """When each of ``cells`` would end, in minutes from now, if ``jobs`` run at once and a free one
    always takes the first cell that can start; cells that are not listed are done."""
    waiting, ends, now = list(cells), {}, 0.0
    running: list[float] = []
    pending = {cell.id for cell in cells}
    while waiting:
        ready = next((cell for cell in waiting if all(
            one.id not in pending or ends.get(one.id, now + 1) <= now for one in cell.after)), None)
        if ready is None or len(running) == jobs:
            now = heapq.heappop(running)
            continue
        waiting.remove(ready)
        ends[ready.id] = now + minutes[ready.id]
        heapq.heappush(running, ends[ready.id])
    return ends
