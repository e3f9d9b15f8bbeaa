"""Doing a study: the cells that are not done, side by side, each by commands of its own."""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import densessl
from densessl.benchmark.processes import Job, Slot, last_words, work_through
from densessl.errors import RunFailed, UsageError
from densessl.files.json_files import read_json_object, write_json
from densessl.machine.facts import machine_facts, versions
from densessl.progress import duration
from densessl.study.cells import DONE, FAILED, RECORD, Cell, Command, Place
from densessl.study.graph import Estimates, Graph

ATTEMPT = 'attempt.json'    # in a cell's folder: what was spent on it before it was done
BEAT = 10.0                 # seconds between two notes of what a running process has spent
NEEDS = 'it needs what failed:'
GRACE = 60.0                # seconds for a run to end its step and save a checkpoint
THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS',
           'OPENCV_FOR_THREADS_NUM')


@dataclass
class Work:
    """A cell at work.

    Attributes:
        command: the one at hand. job: that runs it; None before it is started.
        runs: ``cpu_seconds`` and ``seconds`` of each command that ended well, over all attempts.
        spent: of the command at hand, by attempts that were stopped.
    """

    cell: Cell
    command: Command | None = None
    runs: list[dict[str, float]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=lambda: {'cpu_seconds': 0.0, 'seconds': 0.0})
    attempts: int = 1
    job: Job | None = None
    since: float = 0.0

    def spent_with(self, cpu_seconds: float, seconds: float) -> dict[str, float]:
        """What the command at hand took, with an attempt that took so much."""
        return {'cpu_seconds': self.spent['cpu_seconds'] + cpu_seconds,
                'seconds': self.spent['seconds'] + seconds}


class Runner:
    """The cells of a graph, done in their order.

    Args:
        room: a slot for each of the commands at once.
        budget: minutes after which no cell is expected to run any more; None: all are done.
        environment: of every command.
        say: told what is going on.
    """

    def __init__(self, graph: Graph, place: Place, room: Sequence[Slot], *,
                 budget: float | None = None, environment: Mapping[str, str] | None = None,
                 say: Callable[[str], None] = print) -> None:
        self.graph, self.place, self.room, self.say = graph, place, room, say
        self.budget, self.started = budget, time.monotonic()
        self.environment = {**dict.fromkeys(THREADS, str(place.threads)), **(environment or {})}
        self.waiting = graph.to_do(place)
        waiting = {cell.id for cell in self.waiting}
        self.done = {cell.id for cell in graph.order if cell.id not in waiting}
        self.total = len(self.waiting)
        self.estimates = Estimates(graph.order, place)
        self.running: list[Work] = []
        self.failed: dict[str, str] = {}        # id → why
        self.left_out: list[Cell] = []          # by the budget
        self.beaten = time.monotonic()
        self.facts = {'processor': place.machine, 'machine': machine_facts(),
                      'versions': versions()}

    def run(self) -> None:
        """Do what is not done.

        Raises:
            KeyboardInterrupt: a signal ended it; what was running has saved what it could.
        """
        try:
            work_through(self._next, self.room, self._finished, self._beat)
        finally:
            for work in self.running:
                if work.job is not None:
                    self._note(work, work.job.cpu_seconds, time.monotonic() - work.since)
            self.left_out = [cell for cell in self.waiting if cell.id not in self.failed]

    def _next(self) -> Job | None:
        for work in self.running:
            if work.job is None:        # its next command
                return self._start(work)
        for cell in list(self.waiting):
            broken = [one for one in cell.after if one.id in self.failed]
            if broken:
                self.waiting.remove(cell)
                self.failed[cell.id] = f'{NEEDS} {broken[0].label}'
            elif all(one.id in self.done for one in cell.after) and (
                    self.budget is None or self._fits(cell)):
                self.waiting.remove(cell)
                work = self._work(cell)
                if work is not None:
                    return self._start(work)
        return None

    def _fits(self, cell: Cell) -> bool:
        """Whether the first score that comes of it will be there within the budget."""
        spent = (time.monotonic() - self.started) / 60
        return spent + self._minutes_to_score(cell) <= self.budget

    def _minutes_to_score(self, cell: Cell) -> float:
        then = [self._minutes_to_score(one) for one in self.waiting
                if cell.id in (before.id for before in one.after)]
        return self.estimates.minutes(cell) + min(then, default=0.0)

    def _work(self, cell: Cell) -> Work | None:
        folder = cell.folder(self.place)
        folder.mkdir(parents=True, exist_ok=True)
        work = Work(cell)
        if (folder / ATTEMPT).is_file():        # it goes on where it was stopped
            before = read_json_object(folder / ATTEMPT, ('runs', 'spent', 'attempts'),
                                      remedy='delete it')
            work.runs, work.attempts = before['runs'], before['attempts'] + 1
            work.spent = before['spent'] if cell.resumes else work.spent
        return work if self._prepare(work) else None

    def _prepare(self, work: Work) -> bool:
        """Find the next command of a cell, or finish it; whether there is one."""
        try:
            work.command = work.cell.command(self.place, work.runs)
        except (UsageError, RunFailed) as error:
            self._fail(work.cell, str(error))
            return False
        if work.command is None:
            self._keep(work)
            return False
        self.running.append(work)
        return True

    def _start(self, work: Work) -> Job:
        name = f'{len(work.runs) + 1}-{Path(work.command[0]).stem}.log'
        work.job = Job(work.command, work.cell.folder(self.place) / name, work, self.environment,
                       GRACE)
        work.since = time.monotonic()
        return work.job

    def _finished(self, job: Job, code: int, seconds: float) -> None:
        work: Work = job.about
        self.running.remove(work)
        if code != 0:
            self._note(work, job.cpu_seconds, seconds)
            self._fail(work.cell, f'{last_words(job.log)} (exit code {code}; {job.log})')
            return
        work.runs.append(work.spent_with(job.cpu_seconds, seconds))
        work.spent, work.job = {'cpu_seconds': 0.0, 'seconds': 0.0}, None
        self._note(work)
        self._prepare(work)

    def _keep(self, work: Work) -> None:
        cell, place = work.cell, self.place
        cpu, seconds = (sum(run[key] for run in work.runs) for key in ('cpu_seconds', 'seconds'))
        try:
            found = cell.outcome(place, work.runs)
        except (UsageError, RunFailed) as error:
            self._fail(cell, str(error))
            return
        except (LookupError, ValueError, OSError) as error:     # the others go on
            self._fail(cell, f'what it left cannot be read ({type(error).__name__}: {error})')
            return
        self._record(cell, {
            'status': DONE, **found, 'cpu_seconds': cpu, 'seconds': seconds, 'runs': work.runs,
            'attempts': work.attempts, 'jobs': len(self.room), 'threads': place.threads,
            **self.facts})
        (cell.folder(place) / ATTEMPT).unlink(missing_ok=True)
        cell.tidy(place)
        self.done.add(cell.id)
        self.estimates.add(cell, cpu / 60)
        scores = '  '.join(f'{name} {value:.2f}' for name, value in found.get('scores', {}).items()
                           if value is not None)
        self._tell(f'{cell.label}{scores and f":  {scores}"}  ({cpu:.0f} s of CPU time, '
                   f'{duration(seconds)})')

    def _fail(self, cell: Cell, reason: str) -> None:
        self.failed[cell.id] = reason
        self._record(cell, {'status': FAILED, 'reason': reason})
        self._tell(f'{cell.label}: FAILED: {reason}')

    def _record(self, cell: Cell, found: Mapping[str, Any]) -> None:
        write_json(cell.folder(self.place) / RECORD, {
            'id': cell.id, 'kind': cell.kind, 'label': cell.label, **found,
            'settings': cell.settings, 'after': [one.id for one in cell.after],
            'written': time.strftime('%Y-%m-%d %H:%M'), 'densessl': densessl.__version__})

    def _tell(self, text: str) -> None:
        number = self.total - len(self.waiting) - len(self.running)
        self.say(f'[{number}/{self.total}] {text}')

    def _note(self, work: Work, cpu_seconds: float = 0.0, seconds: float = 0.0) -> None:
        """Write down what was spent on a cell that is not done, so that a stop loses no account."""
        write_json(work.cell.folder(self.place) / ATTEMPT, {
            'runs': work.runs, 'spent': work.spent_with(cpu_seconds, seconds),
            'attempts': work.attempts})

    def _beat(self) -> None:
        if time.monotonic() - self.beaten < BEAT:
            return
        self.beaten = time.monotonic()
        for work in self.running:
            if work.job is not None and work.job.process is not None:
                self._note(work, seconds_of(work.job.process), self.beaten - work.since)


def seconds_of(process: int) -> float:
    """The CPU time of a running process and of those that it waited for; 0 where the system does
    not say."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')
    return 0.0
