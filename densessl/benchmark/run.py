"""The low-label benchmark: initializations × fractions of the labels × seeds, each a fine-tuning
run in a folder and a process of its own."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.benchmark.baseline import find_baseline
from densessl.benchmark.plan import Benchmark
from densessl.benchmark.processes import Job, Slot, last_words, run_jobs, slots
from densessl.benchmark.report import write_report
from densessl.benchmark.results import REMEDY, collect, save
from densessl.dist import check_launcher
from densessl.engine.checkpoint_file import LAST
from densessl.errors import UsageError
from densessl.files.lock import RunLock
from densessl.files.writing import remove_leftovers
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.labelled_data import check_labelled
from densessl.finetune.run_folder import (
    DATA,
    SCORES,
    config_digest,
    finished_run,
    read_scores,
    score_words,
)
from densessl.finetune.weights import network_of
from densessl.progress import duration
from densessl.weights.backbone_file import RANDOM

OVERWRITE = '--overwrite'


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
    check_launcher('none', 'benchmark')
    room = slots(jobs)
    cfg, target = read_downstream_config(benchmark.config, benchmark.options)
    # once for all runs, which are told not to
    lines, data = check_labelled(cfg, target, benchmark.data_root,
                                 benchmark.rule if check else None)
    for line in lines:
        print(f'data: {line}', flush=True)
    networks = {name: network_of(cfg, target, weights, benchmark.keep, benchmark.freeze,
                                 benchmark.allow_partial)
                for name, weights in {RANDOM: None, **benchmark.weights}.items()}
    benchmark.baseline = find_baseline(benchmark, networks)
    jobs_left, done = _jobs_left(benchmark, cfg, data, overwrite)
    with RunLock(benchmark.folder, 'benchmark'):
        remove_leftovers(benchmark.folder)
        print(f'{done + len(jobs_left)} runs, {done} of them done already; {len(room)} at once',
              flush=True)
        failed: dict[str, str] = {}
        outdated = {job.about.name for job in jobs_left if job.arguments[-1] == OVERWRITE}
        try:
            _run_all(benchmark, jobs_left, done, room, keep_weights, failed, outdated)
        finally:    # also when it is stopped
            results = collect(benchmark, failed, outdated)
            save(results, benchmark.folder)
            write_report(results, benchmark.folder)
    return results


def _run_all(benchmark: Benchmark, jobs: Sequence[Job], done: int, room: Sequence[Slot],
             keep_weights: bool, failed: dict[str, str], outdated: set[str]) -> None:
    total, times = done + len(jobs), []

    def finished(job: Job, code: int, seconds: float) -> None:
        run, folder = job.about, benchmark.run_folder(job.about)
        times.append(seconds)
        outdated.discard(run.name)
        left = sum(times) / len(times) * (len(jobs) - len(times)) / len(room)
        if code == 0 and (folder / SCORES).is_file():
            words = score_words(read_scores(folder, remedy=REMEDY)['scores'])
            if not keep_weights:
                _delete_weights(folder)
        else:
            failed[run.name] = last_words(job.log)
            words = f'FAILED (exit code {code}): {failed[run.name]}  ({job.log})'
        print(f'[{done + len(times)}/{total}] {run}: {words}  in {duration(seconds)}'
              + (f', about {duration(left)} left' if left else ''), flush=True)
        save(collect(benchmark, failed, outdated), benchmark.folder)

    run_jobs(jobs, room, finished)


def _jobs_left(benchmark: Benchmark, cfg: Config, data: str, overwrite: bool
               ) -> tuple[list[Job], int]:
    """The runs that are not done, and how many are.

    Args:
        cfg: the config of the length 1.
        data: digest of the labelled data as they are now.

    Raises:
        UsageError: without ``overwrite``, a folder holds a run of other settings.
    """
    options = {length: benchmark.options_of(length, cfg) for length in benchmark.lengths}
    runs = [(run, benchmark.finetuning(run, options[run.length])) for run in benchmark.runs()]
    hashes = {length: config_digest(
        cfg if longer is benchmark.options else read_downstream_config(benchmark.config, longer)[0])
        for length, longer in options.items()}
    jobs, done = [], 0
    for run, finetuning in runs:
        how = '--resume'
        identity = {DATA: data, **finetuning.identity(
            hashes[run.length], benchmark.baseline.digest if finetuning.like else None)}
        try:
            if finished_run(finetuning.folder(), identity, overwrite=False):
                done += 1
                continue
        except UsageError:
            if not overwrite:
                raise
            how = OVERWRITE
        # the files have been opened already, once for all runs
        jobs.append(Job([*finetuning.command(), '--no-check', how],
                        finetuning.folder().with_name(f'{run.name}.log'), run))
    return jobs, done


def _delete_weights(folder: Path) -> None:
    """A benchmark has many runs, and their checkpoints hundreds of megabytes each."""
    (folder / LAST).unlink(missing_ok=True)
    for path in folder.glob('*.pth'):
        path.unlink()
