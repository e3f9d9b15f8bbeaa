"""The low-label benchmark: initializations × fractions of the labels × seeds, each a fine-tuning
run in a folder and a process of its own."""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.benchmark.baseline import find_baseline
from densessl.benchmark.plan import Benchmark, Run
from densessl.benchmark.processes import Job, last_words, run_jobs, slots
from densessl.benchmark.results import RANDOM, REMEDY, collect, save
from densessl.dist import check_launcher
from densessl.engine.checkpoint_file import LAST
from densessl.errors import UsageError
from densessl.files import remove_leftovers
from densessl.finetune.data_check import check_all, inspect_labelled
from densessl.finetune.finetune import read_downstream_config
from densessl.finetune.fitting import fit_backbone
from densessl.finetune.run_folder import config_digest, finished_run, read_scores, score_words
from densessl.lock import BeingBuilt, RunLock
from densessl.progress import duration
from densessl.transfer.target import TransferTarget


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
    from densessl.benchmark.report import write_report
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
            words = score_words(read_scores(folder, remedy=REMEDY)['scores'])
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
