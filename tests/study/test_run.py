"""Doing cells: their order, what fails, what is stopped, and that nothing is done twice."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from densessl.benchmark.processes import Slot
from densessl.study import run as module
from densessl.study.cells import RECORD, Cell, Place
from densessl.study.graph import Graph
from densessl.study.run import ATTEMPT, Runner

MINUTES = 10.0


@dataclass(frozen=True)
class Piece(Cell):
    """Two commands."""

    minutes: float = MINUTES
    resumes: bool = True
    kind = 'piece'

    @property
    def settings(self):
        return {'name': self.label}

    @property
    def similar(self):
        return self.label

    def command(self, place, runs):
        return ['plugins', self.label, str(len(runs))] if len(runs) < 2 else None

    def outcome(self, place, runs):
        self.products(place)[0].touch()
        return {'scores': {'mIoU': 1.0}}

    def products(self, place):
        return [self.folder(place) / 'product']


class Processes:
    """Stands in for processes: every command takes 3 s of CPU time."""

    def __init__(self):
        self.commands, self.broken, self.stop_at = [], set(), None

    def __call__(self, next_job, room, finished, beat):
        while (job := next_job()) is not None:
            name = job.arguments[1]
            job.cpu_seconds = 3.0
            if name == self.stop_at:
                raise KeyboardInterrupt
            self.commands.append(tuple(job.arguments[1:]))
            job.log.write_text('loading\nValueError: no luck\n')
            finished(job, int(name in self.broken), 4.0)


@pytest.fixture
def processes(monkeypatch):
    stand_in = Processes()
    monkeypatch.setattr(module, 'work_through', stand_in)
    return stand_in


@pytest.fixture
def graph():
    first, other = Piece('first'), Piece('other')
    graph = Graph()
    for cell in (first, Piece('second', (first,)), Piece('third', (first,)), other):
        graph.add(cell)
    return graph


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / 'out', {}, {})


def runner(graph, place, said=None, **changes):
    return Runner(graph, place, [Slot(None, 1)], say=(said if said is not None else []).append,
                  **changes)


def record(graph, place, name):
    cell = next(one for one in graph.order if one.label == name)
    return cell.record(place)


def test_cells_are_done_in_their_order_and_never_again(graph, place, processes):
    said = []
    runner(graph, place, said).run()
    assert processes.commands == [(name, number) for name in ('first', 'second', 'third', 'other')
                                  for number in '01']
    found = record(graph, place, 'second')
    assert (found['status'], found['cpu_seconds'], found['seconds']) == ('done', 6.0, 8.0)
    assert found['after'] == [graph.order[0].id] and found['attempts'] == 1
    assert {'machine', 'versions', 'threads', 'settings'} <= set(found)
    assert said[0] == '[1/4] first:  mIoU 1.00  (6 s of CPU time, 8.0 s)'
    assert not list(place.folder.rglob(ATTEMPT))
    again = runner(graph, place)
    again.run()
    assert len(processes.commands) == 8 and not again.failed


def test_a_cell_that_fails_is_named_and_the_others_go_on(graph, place, processes):
    processes.broken, said = {'first'}, []
    one = runner(graph, place, said)
    one.run()
    assert [command[0] for command in processes.commands] == ['first', 'other', 'other']
    assert set(one.failed) == {cell.id for cell in graph.order[:3]} and not one.left_out
    found = record(graph, place, 'first')
    assert found['status'] == 'failed'
    assert found['reason'].startswith('ValueError: no luck (exit code 1; ')
    assert record(graph, place, 'second') is None      # it may yet be done
    assert any('first: FAILED: ValueError: no luck' in line for line in said)
    processes.broken, processes.commands = set(), []
    two = runner(graph, place)
    two.run()                                           # what failed is tried again
    assert [command[0] for command in processes.commands] == ['first'] * 2 + ['second'] * 2 + [
        'third'] * 2
    assert record(graph, place, 'first')['status'] == 'done' and not two.failed


def test_a_stop_keeps_what_was_spent(graph, place, processes, monkeypatch):
    processes.stop_at = 'second'
    one = runner(graph, place)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    assert [cell.label for cell in one.left_out] == ['third', 'other']
    cell = graph.order[1]
    attempt = json.loads((cell.folder(place) / ATTEMPT).read_text())
    assert attempt['spent']['cpu_seconds'] == 3.0 and attempt['runs'] == []
    processes.stop_at = None
    runner(graph, place).run()
    found = record(graph, place, 'second')
    assert (found['cpu_seconds'], found['attempts']) == (9.0, 2)     # 3 before the stop


def test_what_starts_anew_forgets_what_was_spent(place, processes):
    graph = Graph()
    graph.add(Piece('second', resumes=False))
    processes.stop_at = 'second'
    with pytest.raises(KeyboardInterrupt):
        runner(graph, place).run()
    processes.stop_at = None
    runner(graph, place).run()
    assert record(graph, place, 'second')['cpu_seconds'] == 6.0


def test_what_is_needed_and_gone_is_made_again(graph, place, processes):
    runner(graph, place).run()
    first, second, *_ = graph.order
    first.products(place)[0].unlink()
    runner(graph, place).run()
    assert len(processes.commands) == 8         # nobody needs it: only its record counts
    (second.folder(place) / RECORD).unlink()
    processes.commands = []
    runner(graph, place).run()
    assert [command[0] for command in processes.commands] == ['first'] * 2 + ['second'] * 2


def test_a_budget_leaves_out_what_would_end_too_late(graph, place, processes):
    one = runner(graph, place, budget=2 * MINUTES - 1)
    one.run()       # `first` is nothing without the cell that it is for: 20 minutes
    assert {command[0] for command in processes.commands} == {'other'}
    assert [cell.label for cell in one.left_out] == ['first', 'second', 'third']
    one = runner(graph, place, budget=2 * MINUTES + 1)
    one.run()       # 6 s later the other two still fit
    assert not one.left_out and not one.failed


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_run import Piece, runner
from densessl.study.cells import Place
from densessl.study.graph import Graph
class Real(Piece):
    def command(self, place, runs):
        return ['--version'] if len(runs) < {commands} else None
graph = Graph()
for name in 'abc':
    graph.add(Real(name))
runner(graph, Place(Path({out!r}), {{}}, {{}})).run()
"""


def test_killed_anywhere_it_goes_on(tmp_path):
    """A real process that starts real ones, killed without warning."""
    program = PROGRAM.format(tests=str(Path(__file__).parent), out=str(tmp_path / 'out'),
                             commands=3)
    process = subprocess.Popen([sys.executable, '-c', program], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob(RECORD)) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path: path.read_text() for path in tmp_path.rglob(RECORD)}
    assert 0 < len(before) < 3
    subprocess.run([sys.executable, '-c', program], check=True)
    records = [json.loads(path.read_text()) for path in tmp_path.rglob(RECORD)]
    assert len(records) == 3
    for one in records:
        assert one['status'] == 'done' and len(one['runs']) == 3
        assert all(run['cpu_seconds'] > 0 for run in one['runs'])
    for path, text in before.items():       # no cell twice
        assert path.read_text() == text
