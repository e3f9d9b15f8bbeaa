"""Commands of densessl in processes of their own, as many at once as there are devices."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densessl.cores import cores
from densessl.errors import UsageError

MOST_JOBS = 2 ** 10
GRACE = 5.0     # seconds between asking a process to end and ending it


@dataclass
class Job:
    """A command to run.

    Attributes:
        arguments: of ``densessl``.
        log: where what it prints goes.
        about: the caller's own, handed back.
    """

    arguments: Sequence[str]
    log: Path
    about: Any = None


@dataclass
class Slot:
    """Room for one process: a CUDA device, or a share of the CPU (``device`` is None)."""

    device: str | None
    threads: int | None = None

    def environment(self) -> dict[str, str]:
        """The environment of a process in this slot."""
        own = dict(os.environ)
        if self.device is not None:
            own['CUDA_VISIBLE_DEVICES'] = self.device
        if self.threads is not None:
            own.setdefault('OMP_NUM_THREADS', str(self.threads))
        return own


def slots(jobs: int | None = None) -> list[Slot]:
    """One slot for each CUDA device that may be used (``CUDA_VISIBLE_DEVICES``), or one for the
    whole CPU; ``jobs`` of them if it is given, the devices in turn or the cores shared out."""
    import torch
    if jobs is not None and not 1 <= jobs <= MOST_JOBS:
        raise UsageError(f'--jobs {jobs}: at least 1 and at most {MOST_JOBS}')
    number = torch.cuda.device_count()
    if number:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',')[:number] if visible else [str(i) for i in range(number)]
        return [Slot(names[i % number].strip()) for i in range(jobs or number)]
    count = jobs or 1
    return [Slot(None, max(1, cores() // count) if count > 1 else None) for _ in range(count)]


def run_jobs(jobs: Sequence[Job], room: Sequence[Slot],
             finished: Callable[[Job, int, float], None]) -> None:
    """Run ``jobs`` in their order, one process in each slot at a time.

    Args:
        finished: called with each job that ended, its exit code and its seconds.

    Raises:
        KeyboardInterrupt: this process was asked to end (Ctrl-C, SIGTERM); the processes that ran
            were ended, too.
    """
    waiting, free = list(jobs), list(room)
    running: list[tuple[subprocess.Popen, Job, Slot, float]] = []
    try:
        with _terminate_as_interrupt():
            while waiting or running:
                while waiting and free:
                    job, slot = waiting.pop(0), free.pop(0)
                    running.append((_start(job, slot), job, slot, time.monotonic()))
                for entry in list(running):
                    process, job, slot, started = entry
                    if process.poll() is not None:
                        running.remove(entry)
                        free.append(slot)
                        _end(process)    # what it may have left behind: loader workers
                        finished(job, process.returncode, time.monotonic() - started)
                time.sleep(0.1)
    finally:
        for process, *_ in running:
            _end(process)


def last_words(log: Path) -> str:
    """The last line in a log that says something: the error, of a command that failed."""
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines()]
    return next((line for line in reversed(lines) if line), 'it said nothing')


def _start(job: Job, slot: Slot) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open('w') as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends that one with
        # all of its loader workers.
        return subprocess.Popen(
            [sys.executable, '-m', 'densessl.benchmark.child', *job.arguments],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
            env=slot.environment(), start_new_session=True)


def _end(process: subprocess.Popen) -> None:
    """End a process and its children, if there are any left."""
    for force in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, force)
            process.wait(GRACE)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.stdin.close()
    process.wait()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM, as a cluster sends it, ends this process the way Ctrl-C does."""
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt
    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:      # not in the main thread: its signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
