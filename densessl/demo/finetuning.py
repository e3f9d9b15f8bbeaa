"""The demo's fine-tuning: every downstream model from random and from pretrained weights at once, a
process each where there is more than one core. One after the other would leave a core idle."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from densessl.benchmark.processes import Job, last_words, run_jobs, slots
from densessl.demo.demo import BOTH, PRETRAINED, Demo, run_name
from densessl.demo.stages import Stages, is_whole
from densessl.errors import Interrupted, RunFailed, UsageError
from densessl.finetune.run_folder import SCORES, read_scores
from densessl.machine.cores import cores


def finetune_all(demo: Demo, stages: Stages) -> dict[str, Any]:
    """Fine-tune every downstream model from both weights, a stage each; return what each run wrote
    down of itself, by :func:`run_name`.

    Raises:
        UsageError, RunFailed: a run says what is wrong, or failed.
        KeyboardInterrupt: a signal stopped them.
    """
    measured: dict[str, Any] = {}
    for part in demo.cfg.finetuning:
        folders = {run_name(part, *run): demo.finetuning(part, *run).relative_to(demo.folder)
                   for run in _runs(part)}
        times = f', {part.repeats} times' if part.repeats > 1 else ''
        measured |= stages.run(
            part.name, f'fine-tune {part.name} ({part.task}) from random and '
            f'{demo.label(PRETRAINED)} weights{times}',
            lambda _, part=part: _finetune_part(demo, part),
            settings=[{key: value for key, value in part.to_dict().items() if key != 'repeats'},
                      demo.cfg.pictures.predictions, demo.seed],
            after=['sample', 'export'], owns=[*map(str, folders.values()), *(
                str(_log(demo, part, weights).relative_to(demo.folder)) for weights in BOTH)],
            needs=[f'{folder}/{SCORES}' for folder in folders.values()])
    return measured


def finetune_named(demo: Demo, names: Sequence[str]) -> None:
    """Do some of the runs of :func:`finetune_all`, in turn.

    Args:
        names: of runs, as :func:`run_name` gives them.

    Raises:
        UsageError: there is no such run, or it refuses its input.
        KeyboardInterrupt: a signal stopped it.
    """
    known = {run_name(part, *run): (part, *run) for part in demo.cfg.finetuning
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
    for path in folder.glob('*.pth'):   # scores and pictures are kept; all weights would be 3 GB
        path.unlink()


def _runs(part: Any) -> list[tuple[str, int]]:
    return list(product(BOTH, range(part.repeats)))


def _finetune_part(demo: Demo, part: Any) -> dict[str, Any]:
    """Do the runs of a model that are not done; return what all of them wrote down."""
    folders = {run_name(part, *run): demo.finetuning(part, *run) for run in _runs(part)}
    read = partial(read_scores, remedy='start over with --fresh')
    jobs = []
    for weights in BOTH:
        names = [run_name(part, weights, repeat) for repeat in range(part.repeats)]
        if todo := [name for name in names if not is_whole(folders[name] / SCORES)]:
            jobs.append(Job(['demo', '--out', str(demo.folder), '--seed', str(demo.seed),
                             *(['--quick'] if demo.quick else []), '--run', *todo],
                            _log(demo, part, weights), names))

    def finished(job: Job, code: int, seconds: float) -> None:
        if code:
            failure = UsageError if code == 2 else RunFailed
            raise failure(f'{last_words(job.log).removeprefix("densessl demo: ")} (exit code '
                          f'{code}; {job.log})')
        for name in job.about:
            found = read(folders[name])['scores']
            print(f'      {name}: ' + '  '.join(f'{score} {found[score]:.1f}'
                                                for score in part.scores), flush=True)

    at_once = None if torch.cuda.is_available() else max(1, min(cores(), len(jobs)))
    run_jobs(jobs, slots(at_once), finished)
    return {name: read(folder) for name, folder in folders.items()}


def _log(demo: Demo, part: Any, weights: str) -> Path:
    return demo.finetuning(part, weights).with_suffix('.log')
