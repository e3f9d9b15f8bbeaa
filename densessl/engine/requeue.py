"""SIGUSR1, by which Slurm says that the time of a job is nearly up: the run saves a checkpoint,
stops, and has the job queued again."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

from densessl.errors import Interrupted

SIGNAL = getattr(signal, 'SIGUSR1', None)      # Windows has none
EXIT_CODE = 75                                 # EX_TEMPFAIL of sysexits.h: try again later


class ToBeRequeued(Interrupted):
    """The run was asked by SIGUSR1 to stop, and to be started again: exit code 75."""


@contextmanager
def requeued_at_any_time() -> Iterator[None]:
    """Within, SIGUSR1 ends what is done before and after the training, where nothing is to be
    saved; while training, the run's own handler takes its place.

    Raises:
        ToBeRequeued: the signal came.
    """
    def stop(number: int, frame: Any) -> None:
        raise ToBeRequeued('stopped before the training, or after it')
    if SIGNAL is None or current_thread() is not main_thread():
        yield
        return
    before = signal.signal(SIGNAL, stop)
    try:
        yield
    finally:
        signal.signal(SIGNAL, before)


def ended(stop: Interrupted, command: str, rank: int) -> int:
    """Say that a command was stopped; if by SIGUSR1, have the first process queue the job again.
    Returns the exit code."""
    words = str(stop)
    if isinstance(stop, ToBeRequeued) and rank == 0:
        words += _requeued(os.environ.get('SLURM_JOB_ID'))
    print(f'densessl {command}: {words}', file=sys.stderr, flush=True)
    return EXIT_CODE if isinstance(stop, ToBeRequeued) else 1


def _requeued(job: str | None) -> str:
    if job is None:
        return ''
    try:
        done = subprocess.run(['scontrol', 'requeue', job], capture_output=True, text=True,
                              timeout=60)
        failed = done.returncode and (done.stderr.strip() or f'exit code {done.returncode}')
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    if failed:
        return f'; job {job} could not be queued again: {failed}'
    return f'; job {job} is queued again'
