"""The low-label benchmark: initializations × fractions of the labels × seeds, each a fine-tuning
run in a folder and a process of its own."""
from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.checkpoint_file import LAST
from densessl.data.pixel_rule import PLAIN
from densessl.dist import check_launcher
from densessl.errors import UsageError
from densessl.evaluation.baseline import Baseline, find_baseline
from densessl.evaluation.benchmark_results import RANDOM, SUPERVISED, collect, save
from densessl.evaluation.processes import Job, last_words, run_jobs, slots
from densessl.files import read_json_object, remove_leftovers
from densessl.lock import BeingBuilt, RunLock
from densessl.stages import duration
from densessl.transfer.data_check import check_all, inspect_labelled
from densessl.transfer.finetune import read_downstream_config
from densessl.transfer.fitting import fit_backbone
from densessl.transfer.image_loading import rule_for
from densessl.transfer.runs import config_digest, finished_run
from densessl.transfer.target import TransferTarget
from densessl.transfer.weights import Weights

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
    baseline: Baseline = field(default_factory=Baseline, init=False)

    def __post_init__(self) -> None:
        self.fractions = _increasing('--fractions', self.fractions, 1.0)
        self.lengths = _increasing('--lengths', self.lengths, LONGEST)
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise UsageError(f'--seeds {self.seeds}: at least 1 and at most {MOST_SEEDS}')
        for name in self.backbones:
            if name in (RANDOM, SUPERVISED):
                raise UsageError(f'--backbones: the name {name!r} is taken; random weights are '
                                 f'always compared, others of that name go to --{SUPERVISED}')
            if not re.fullmatch(r'[\w.+-]+', name):
                raise UsageError(f'--backbones: the name {name!r} may only have letters, digits '
                                 f'and . + - _')
        self.files: dict[str, str | None] = {RANDOM: None}
        if self.supervised:
            self.files[SUPERVISED] = self.supervised
        self.files.update(self.backbones)
        self.weights = {name: Weights.load(file) for name, file in self.files.items() if file}
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

    def options_of(self, length: float, cfg: Config) -> dict[str, Any]:
        """The overrides that make the fine-tuning ``length`` times that of ``cfg``."""
        if length == 1:
            return self.options
        unit = 'max_iters' if cfg.train_cfg.get('max_iters') else 'max_epochs'
        longer = {f'train_cfg.{key}': max(1, round(cfg.train_cfg[key] * length))
                  for key in (unit, 'val_interval') if cfg.train_cfg.get(key)}
        return {**self.options, **longer}


def run_benchmark(benchmark: Benchmark, *, jobs: int | None = None, overwrite: bool = False,
                  keep_weights: bool = False, check: bool = True) -> dict[str, Any]:
    """Do the runs that are not done, and write ``results.json``, tables and plots.

    A run that fails is noted in the results and the others go on. A benchmark that was stopped is
    continued by the same call; one with more seeds, fractions, lengths or backbones adds to it.

    Args:
        jobs: processes at once; one for each device if None.
        overwrite: do runs again whose results in the folder are of other settings.
        keep_weights: keep the checkpoints of finished runs.
        check: open every labelled file before the first run.

    Returns:
        What ``results.json`` holds.

    Raises:
        UsageError: something is wrong that would make all runs fail, or the folder holds results
            of other settings.
        KeyboardInterrupt: a signal stopped it; what was done is in the results.
    """
    from densessl.evaluation.benchmark_report import write_report
    check_launcher('none', 'benchmark')
    room = slots(jobs)
    cfg, target = read_downstream_config(benchmark.config, benchmark.options)
    _check_inputs(benchmark, cfg, target, check)
    settings = {length: _settings(benchmark, length, cfg) for length in benchmark.lengths}
    todo, done = _divide(benchmark, settings, overwrite)
    with _only_one(benchmark.folder):
        print(f'{len(todo) + len(done)} runs, {len(done)} of them done already; '
              f'{len(room)} at once', flush=True)
        failed: dict[str, str] = {}
        try:
            _run_all(benchmark, todo, settings, len(done), room, keep_weights, failed)
        finally:    # also when it is stopped
            results = collect(benchmark, failed)
            save(results, benchmark.folder)
            write_report(results, benchmark.folder)
    return results


def _run_all(benchmark: Benchmark, todo: Sequence[tuple[Run, bool]], settings: dict[float, Any],
             done: int, room: Sequence[Any], keep_weights: bool, failed: dict[str, str]) -> None:
    total, times = done + len(todo), []

    def finished(job: Job, code: int, seconds: float) -> None:
        run, folder = job.about, benchmark.run_folder(job.about)
        times.append(seconds)
        left = sum(times) / len(times) * (len(todo) - len(times)) / len(room)
        if code == 0 and (folder / 'scores.json').is_file():
            scores = read_json_object(folder / 'scores.json', ['scores'],
                                      remedy='delete its folder to run it again')['scores']
            words = '  '.join(f'{name} {value:.2f}' for name, value in scores.items())
            if not keep_weights:
                _delete_weights(folder)
        else:
            failed[run.name] = last_words(job.log)
            words = f'FAILED (exit code {code}): {failed[run.name]}  ({job.log})'
        print(f'[{done + len(times)}/{total}] {run}: {words}  in {duration(seconds)}'
              + (f', about {duration(left)} left' if left else ''), flush=True)
        save(collect(benchmark, failed), benchmark.folder)

    run_jobs([Job(_command(benchmark, run, settings[run.length]['options'], again),
                  benchmark.run_folder(run).with_name(f'{run.name}.log'), run)
              for run, again in todo], room, finished)


def _command(benchmark: Benchmark, run: Run, options: dict[str, Any], again: bool) -> list[str]:
    words = ['finetune', benchmark.config, '--backbone',
             benchmark.files[run.initialization] or RANDOM, '--fraction', repr(run.fraction),
             '--seed', str(run.seed), '--work-dir', str(benchmark.run_folder(run))]
    if run.initialization == RANDOM and benchmark.baseline.like:
        words += ['--like', benchmark.files[benchmark.baseline.like]]
    if benchmark.data_root:
        words += ['--data-root', str(benchmark.data_root)]
    if benchmark.keep:
        words += ['--keep', *benchmark.keep]
    if benchmark.freeze is not None:
        words += ['--freeze', str(benchmark.freeze)]
    rule = benchmark.rule
    if rule.value_range is not None:
        values = [rule.value_range] if isinstance(rule.value_range, str) else rule.value_range
        words += ['--value-range', *map(str, values)]
    if rule.bands:
        words += ['--bands', *map(str, rule.bands)]
    if options:
        words += ['--cfg-options', *(f'{key}={value!r}' for key, value in options.items())]
    words.append('--no-check')     # done before the first run
    return (words + ['--allow-partial'] * benchmark.allow_partial
            + ['--overwrite' if again else '--resume'])


def _check_inputs(benchmark: Benchmark, cfg: Config, target: TransferTarget, check: bool) -> None:
    """Find now what every run would stumble over, and what random weights are to be like."""
    with_data = copy.deepcopy(cfg)
    target.set_data(with_data, benchmark.data_root)
    reports, _ = inspect_labelled(with_data, target)
    if check:      # once for all runs, which are told not to
        for line in check_all(with_data, reports, benchmark.rule):
            print(f'data: {line}', flush=True)
    for weights in (None, *benchmark.weights.values()):
        fit_backbone(copy.deepcopy(cfg), target, weights, benchmark.keep, benchmark.freeze,
                     benchmark.allow_partial)
    benchmark.baseline = find_baseline(benchmark, cfg, target)


def _settings(benchmark: Benchmark, length: float, cfg: Config) -> dict[str, Any]:
    """The overrides of a length, and the digest of the config that they give."""
    options = benchmark.options_of(length, cfg)
    if options is not benchmark.options:
        cfg, _ = read_downstream_config(benchmark.config, options)
    return {'options': options, 'config_hash': config_digest(cfg)}


def _divide(benchmark: Benchmark, settings: dict[float, Any], overwrite: bool
            ) -> tuple[list[tuple[Run, bool]], list[Run]]:
    """The runs to do, with whether they replace one of other settings, and those that are done."""
    root = str(Path(benchmark.data_root).resolve()) if benchmark.data_root else None
    todo, done = [], []
    for run in benchmark.runs():
        weights = benchmark.weights.get(run.initialization)
        wanted = {'config_hash': settings[run.length]['config_hash'], 'data_root': root,
                  'backbone': weights.meta['sha256'] if weights else RANDOM,
                  'fraction': run.fraction, 'seed': run.seed, 'keep': sorted(benchmark.keep),
                  'freeze': benchmark.freeze,
                  'like': None if weights else benchmark.baseline.digest,
                  'pixels': benchmark.rule.record() or None}
        try:
            if finished_run(benchmark.run_folder(run), wanted, overwrite=False):
                done.append(run)
            else:
                todo.append((run, False))
        except UsageError:
            if not overwrite:
                raise
            todo.append((run, True))
    return todo, done


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder against a second benchmark at the same time."""
    with ExitStack() as stack:
        try:
            stack.enter_context(RunLock(folder))
        except BeingBuilt as error:
            raise UsageError(f'another benchmark is at work in {folder}; wait for it, or choose '
                             f'another --work-dir') from error
        remove_leftovers(folder)
        yield


def _delete_weights(folder: Path) -> None:
    """A benchmark has many runs, and their checkpoints hundreds of megabytes each."""
    (folder / LAST).unlink(missing_ok=True)
    for path in folder.glob('*.pth'):
        path.unlink()


def _increasing(option: str, values: Sequence[float], most: float) -> list[float]:
    for value in values:
        if not 0 < value <= most:
            raise UsageError(f'{option} {value:g}: above 0 and at most {most:g}')
    if not values:
        raise UsageError(f'{option}: at least one')
    return sorted(set(values))
