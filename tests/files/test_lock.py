"""One run a work folder: who holds it, who is dead, and what is left behind."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from densessl.errors import UsageError
from densessl.files import lock
from densessl.files.lock import RUNNING, BeingBuilt, RunLock
from densessl.files.writing import remove_leftovers


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, 'GRACE', 0.1)
    monkeypatch.setattr(lock, 'PATIENCE', 0.5)


def holder(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / RUNNING).write_text(json.dumps({**lock._process(), **changes}))


def test_a_folder_is_held_by_one_run(tmp_path):
    folder = tmp_path / 'new' / 'run'
    with RunLock(folder):
        with pytest.raises(BeingBuilt, match=r'another run is at work in .*run .*another --work-d'):
            RunLock(folder).__enter__()
        assert (folder / RUNNING).exists()
    assert list(tmp_path.iterdir()) == []       # nothing came into it, so nothing is left of it
    with pytest.raises(ZeroDivisionError), RunLock(folder):
        (folder / 'log').touch()
        _ = 1 / 0
    assert [path.name for path in folder.iterdir()] == ['log']


@pytest.mark.parametrize('changes', [
    {'pid': 2 ** 22 + 1},                       # above any
    {'started': '1'},                           # the number was given to another process since
    {'machine': 'an earlier start of it'},      # asked by waiting for a beat
    {'host': 'elsewhere', 'machine': 'b'}])
def test_the_lock_of_a_dead_run_is_taken_over(changes, tmp_path):
    holder(tmp_path, **changes)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / RUNNING).read_text())['pid'] == os.getpid()
    assert not (tmp_path / RUNNING).exists()


@pytest.mark.parametrize('content', ['', '{"pid": ', '[]', '{"pid": "x"}'])
def test_a_lock_that_says_nothing_is_taken_over_when_it_does_not_beat(content, tmp_path):
    (tmp_path / RUNNING).write_text(content)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / RUNNING).read_text())['pid'] == os.getpid()
    assert not (tmp_path / RUNNING).exists()


def test_a_run_of_another_machine_that_beats_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, 'BEAT', 0.05)
    with RunLock(tmp_path):
        monkeypatch.setattr(lock, '_machine', lambda: 'another')
        with pytest.raises(BeingBuilt):
            RunLock(tmp_path).__enter__()


def test_a_killed_run_that_nobody_has_waited_for_yet_is_dead(tmp_path):
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    holder(tmp_path, pid=process.pid, started=lock._started(process.pid))
    with pytest.raises(BeingBuilt):
        RunLock(tmp_path).__enter__()
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with RunLock(tmp_path):
        pass
    process.wait()


def test_a_forked_helper_does_not_give_the_folder_up(tmp_path):
    held = RunLock(tmp_path).__enter__()
    pid = os.fork()
    if pid == 0:
        held.__exit__(None, None, None)
        os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / RUNNING).exists()
    held.__exit__(None, None, None)


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path):
    left = ['.iter_6.pth.part', '.iter_6.pth.12.part', f'.iter_4.pth.{os.getpid()}.part',
            '.run.json.4194999.part', '.0123456789abcdef.tmp', '.best_mIoU_iter_2.pth.part',
            '.backbone_x.pth.4194999.part']
    kept = ['iter_6.pth', 'thesis.part', 'data.tmp', '.notes.tmp', 'a.pth.part',
            f'.backbone.pth.{os.getpid()}.part']    # an export that is being written now
    for name in [*left, *kept]:
        (tmp_path / name).touch()
    (tmp_path / '.densessl-abc_1234').mkdir()
    (tmp_path / 'below').mkdir()
    (tmp_path / 'below' / left[0]).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, 'below'])
    assert (tmp_path / 'below' / left[0]).exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match=r'^--work-dir .* cannot be made'):
        RunLock(tmp_path / 'file' / 'run').__enter__()
    with pytest.raises(UsageError, match=r'^--out .*file. is a file'):
        RunLock(tmp_path / 'file', 'study', '--out').__enter__()
