"""Commands of densessl in processes of their own, as many at once as there are devices."""
from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.machine.cores import cores, with_threads

MOST_JOBS = 2 ** 10
GRACE = 5.0     # seconds between asking a process to end and ending it


@dataclass
class Job:
    """A command to run.

    Attributes:
        arguments: of ``densessl``, or after a Python file of its own.
        log: where what it prints goes.
        about: the caller's own, handed back.
        environment: variables of its own, above those of its slot.
        grace: seconds between asking it to end and ending it.
        process: its number, once it runs.
        cpu_seconds: that it and the processes that it waited for took, once it ended.
    """

    arguments: Sequence[str]
    log: Path
    about: Any = None
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: float = GRACE
    process: int | None = None
    cpu_seconds: float = 0.0


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
        return own if self.threads is None else with_threads(own, self.threads)


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
    """Run ``jobs`` in their order, one process in each slot at a time; as
    :func:`work_through`."""
    waiting = iter(jobs)
    work_through(lambda: next(waiting, None), room, finished)


def work_through(next_job: Callable[[], Job | None], room: Sequence[Slot],
                 finished: Callable[[Job, int, float], None],
                 beat: Callable[[], None] = lambda: None) -> None:
    """Run jobs, one process in each slot at a time, until there are none.

    Args:
        next_job: gives the job to start now, or None if there is none before one that runs has
            finished; asked whenever a slot is free.
        finished: called with each job that ended, its exit code and its seconds.
        beat: called several times a second while processes run.

    Raises:
        KeyboardInterrupt: this process was asked to end (Ctrl-C, SIGTERM); the processes that ran
            were ended, too.
    """
    free = list(room)
    running: list[tuple[subprocess.Popen, Job, Slot, float]] = []
    try:
        with _terminate_as_interrupt():
            while True:
                while free and (job := next_job()) is not None:
                    slot = free.pop(0)
                    running.append((_start(job, slot), job, slot, time.monotonic()))
                if not running:
                    return
                for entry in list(running):
                    process, job, slot, started = entry
                    if _has_ended(process, job):
                        running.remove(entry)
                        free.append(slot)
                        _end(process)    # what it may have left behind: loader workers
                        finished(job, process.returncode, time.monotonic() - started)
                beat()
                time.sleep(0.1)
    finally:
        _end_all([(process, job) for process, job, *_ in running])


def _has_ended(process: subprocess.Popen, job: Job) -> bool:
    """Whether it ended; then it is waited for, which adds what it took to what the system says of
    the children of this process."""
    before = _seconds_of_children()
    if process.poll() is None:
        return False
    job.cpu_seconds = _seconds_of_children() - before
    return True


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def last_words(log: Path) -> str:
    """The last line in a log that says something: the error, of a command that failed."""
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines()]
    return next((line for line in reversed(lines) if line), 'it said nothing')


def _start(job: Job, slot: Slot) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    script = job.arguments[0].endswith('.py')
    started = [] if script else ['-m', 'densessl']
    with job.log.open('w') as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends that one with
        # all of its loader workers.
        process = subprocess.Popen(
            [sys.executable, *started, *job.arguments],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
            env={**slot.environment(), 'DENSESSL_ENDS_WITH_PARENT': '1', **job.environment},
            start_new_session=True)
    job.process = process.pid
    return process


def _end_all(running: Sequence[tuple[subprocess.Popen, Job]]) -> None:
    """Ask all to end, so that they save what they have at the same time, then end them."""
    for process, _ in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process, job in running:
        deadline = time.monotonic() + job.grace
        while not _has_ended(process, job) and time.monotonic() < deadline:
            time.sleep(0.02)
        _end(process)


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
