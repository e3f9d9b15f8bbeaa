"""The demo's fine-tuning: every downstream model from random and from pretrained weights at once, a
process each on cores of its own. In turns, both would wait for what one core does alone."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from densessl.benchmark.processes import Job, last_words, run_jobs, slots
from densessl.cores import cores
from densessl.demo.demo import BOTH, PRETRAINED, Demo, stage_name
from densessl.demo.stages import Stages
from densessl.errors import Interrupted, RunFailed, UsageError
from densessl.files import read_json_object


def finetune_all(demo: Demo, stages: Stages) -> dict[str, Any]:
    """Fine-tune every downstream model from both weights, a stage each; return what each run wrote
    down of itself, by :func:`stage_name`."""
    measured: dict[str, Any] = {}
    for part in demo.cfg.finetuning:
        runs = list(_runs(part))
        folders = {stage_name(part, *run): demo.finetuning(part, *run).relative_to(demo.folder)
                   for run in runs}
        times = f', {part.repeats} times' if part.repeats > 1 else ''
        measured |= stages.run(
            part.name, f'fine-tune {part.name} ({part.task}) from random and '
            f'{demo.label(PRETRAINED)} weights{times}',
            lambda _, part=part: _both(demo, part),
            settings=[part.to_dict(), demo.cfg.pictures.predictions, demo.seed],
            after=['sample', 'export'], owns=[str(folder) for folder in folders.values()],
            needs=[f'{folder}/scores.json' for folder in folders.values()])
    return measured


def finetune_named(demo: Demo, names: Sequence[str]) -> None:
    """Do some of the runs of :func:`finetune_all`, in turn.

    Args:
        names: of :func:`stage_name`.

    Raises:
        UsageError: there is no such run, or what it says is wrong with it.
        KeyboardInterrupt: a signal stopped it.
    """
    known = {stage_name(part, *run): (part, *run) for part in demo.cfg.finetuning
             for run in _runs(part)}
    for name in names:
        if name not in known:
            raise UsageError(f'--run {name}: there are {", ".join(known)}')
        _finetune(demo, *known[name])


def _finetune(demo: Demo, part: Any, weights: str, repeat: int) -> None:
    from densessl.demo.predictions import KeepPredictions
    from densessl.finetune.finetune import finetune
    from densessl.finetune.run import FinetuneRun
    from densessl.finetune.weights import Weights
    folder = demo.finetuning(part, weights, repeat)
    options = {
        **part.options,
        'custom_hooks': [dict(type=KeepPredictions.__name__, names=demo.shown())],
        # mmengine gives runs of one process that share this name the first one's log files
        'visualizer.name': str(folder.resolve())}
    try:
        finetune(FinetuneRun(
            part.config, Weights.load(demo.backbone) if weights == PRETRAINED else None,
            demo.sample, part.fraction, demo.seed_of(repeat), options, work_dir=folder),
            overwrite=True)
    except Interrupted as stop:     # runs of a minute begin anew
        raise KeyboardInterrupt from stop


def _runs(part: Any) -> Iterator[tuple[str, int]]:
    for weights in BOTH:
        for repeat in range(part.repeats):
            yield weights, repeat


def _both(demo: Demo, part: Any) -> dict[str, Any]:
    """Do the runs of a model that are not done; return what all of them wrote down."""
    scores = {stage_name(part, *run): demo.finetuning(part, *run) / 'scores.json'
              for run in _runs(part)}
    jobs = []
    for weights in BOTH:
        names = [stage_name(part, weights, repeat) for repeat in range(part.repeats)]
        if todo := [name for name in names if not scores[name].is_file()]:
            log = demo.finetuning(part, weights).with_suffix('.log')
            jobs.append(Job(['demo', '--out', str(demo.folder), '--seed', str(demo.seed),
                             *(['--quick'] if demo.quick else []), '--run', *todo], log, names))

    def finished(job: Job, code: int, seconds: float) -> None:
        if code:
            failure = UsageError if code == 2 else RunFailed
            raise failure(f'{last_words(job.log).removeprefix("densessl demo: ")} ({job.log})')
        for name in job.about:
            found = _read(scores[name])['scores']
            print(f'      {name}: ' + '  '.join(f'{score} {found[score]:.1f}'
                                                for score in part.scores), flush=True)

    at_once = None if torch.cuda.is_available() else min(cores(), len(BOTH))
    run_jobs(jobs, slots(at_once), finished)
    return {name: _read(path) for name, path in scores.items()}


def _read(scores: Path) -> dict[str, Any]:
    return read_json_object(scores, ('scores',), remedy='start over with --fresh')
