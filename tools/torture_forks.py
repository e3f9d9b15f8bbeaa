"""Runs of densessl as forks of a process that has imported everything, so that a kill costs tenths
of a second; and what is done to them."""
from __future__ import annotations

import functools
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import utils
from yapf.yapflib import yapf_api

from densessl.__main__ import end_with_parent
from densessl.benchmark import processes
from densessl.cli import main

PATIENCE = 120.0    # seconds after which a run is taken for hanging


@dataclass(frozen=True)
class Point:
    """A moment of a run: ``before``, ``within`` or ``after`` the call ``number`` (from 0) of those
    that change what is on the disk."""

    number: int
    when: str


@dataclass
class Ended:
    """How a run ended: its exit code (negative: a signal), what it said, its seconds, and how many
    calls it made that change what is on the disk."""

    code: int
    said: str
    seconds: float
    calls: int = 0


def quicken() -> None:
    """Have runs of this process and its forks leave out what takes most of so small a run: the
    looks of the config that is written down, reading the libraries' lists of models again, and a
    new interpreter for each run of a benchmark."""
    yapf_api.FormatCode = lambda text, **_: (text, True)
    utils._get_cfg_metainfo = functools.cache(utils._get_cfg_metainfo)
    processes._start = _start_fork


def run(arguments: list[str], *, kill_after: float | None = None, kill_at: Point | None = None,
        largest_file: int | None = None) -> Ended:
    """Run ``densessl ARGUMENTS`` in a fork; SIGKILL it after some seconds or at a point.

    Args:
        largest_file: bytes that a file may have; the system refuses to write more.
    """
    with tempfile.NamedTemporaryFile('w+') as log, tempfile.NamedTemporaryFile('w+') as count:
        sys.stdout.flush()
        begun, pid = time.monotonic(), os.fork()
        if pid == 0:
            _be_the_run(arguments, log, count, kill_at, largest_file)
        code = _wait(pid, begun, kill_after)
        seconds = time.monotonic() - begun
        return Ended(code, Path(log.name).read_text(errors='replace'), seconds,
                     int(Path(count.name).read_text() or 0))


def _wait(pid: int, begun: float, kill_after: float | None) -> int:
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - begun > (PATIENCE if kill_after is None else kill_after):
            os.kill(pid, signal.SIGKILL)
            kill_after = PATIENCE + 9       # only once
        time.sleep(0.002)


def _be_the_run(arguments: list[str], log: Any, count: Any, kill_at: Point | None,
                largest_file: int | None) -> None:
    code, calls = 70, _watch(kill_at)
    try:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        count.write(str(calls[0]))
        count.flush()
        os._exit(code)


def _watch(kill_at: Point | None) -> list[int]:
    """Count the calls of this process that change what is on the disk; end it at one of them."""
    calls, owner = [0], os.getpid()

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            here = (kill_at is not None and calls[0] == kill_at.number
                    and os.getpid() == owner)       # not a run that it started
            calls[0] += 1
            if here and kill_at.when == 'within' and function is save:
                _write_half(*args)
            if here and kill_at.when in ('before', 'within'):
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

    save = torch.save
    torch.save = watched(torch.save)
    for name in ('replace', 'fsync', 'unlink', 'mkdir'):
        setattr(os, name, watched(getattr(os, name)))
    return calls


def _write_half(content: Any, file: Any) -> None:
    with tempfile.TemporaryFile() as whole:
        torch_save = torch.serialization.save
        torch_save(content, whole)
        size = whole.tell()
        whole.seek(0)
        file.write(whole.read(size // 2))
        file.flush()


class _Fork:
    """What a benchmark needs of a process, of a fork."""

    def __init__(self, pid: int, stdin: Any) -> None:
        self.pid, self.stdin, self.returncode = pid, stdin, None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired('a fork', timeout)
            time.sleep(0.002)
        return self.returncode


def _start_fork(job: processes.Job, slot: processes.Slot) -> _Fork:
    """As the benchmark starts its runs, without the seconds of a new interpreter."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    ours, theirs = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(ours)
        return _Fork(pid, os.fdopen(theirs, 'wb'))
    code = 70
    try:
        os.setsid()
        os.close(theirs)
        os.dup2(ours, 0)
        with job.log.open('w') as log:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
        end_with_parent()
        code = main(list(job.arguments))
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def damage(path: Path, how: str, random_: random.Random) -> None:
    """Leave ``path`` empty, cut in half, or with one bit flipped in a tensor."""
    data = bytearray(path.read_bytes())
    if how == 'empty':
        data = bytearray()
    elif how == 'half':
        del data[len(data) // 2:]
    else:
        data[random_.randrange(len(data) // 4, len(data) * 3 // 4)] ^= 1 << random_.randrange(8)
    path.write_bytes(data)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], bool] | None]:
    """A file system of ``size`` bytes at ``folder``, which needs root: yields what gives it
    another size; None where it may not be made."""
    folder.mkdir()

    def mount(*options: str) -> bool:
        return subprocess.run(['mount', '-t', 'tmpfs', *options, 'none', str(folder)],
                              capture_output=True, check=False).returncode == 0
    if os.geteuid() != 0 or not mount('-o', f'size={size}'):
        yield None
        return
    try:
        yield lambda size: mount('-o', f'remount,size={size}')
    finally:
        subprocess.run(['umount', str(folder)], check=True)
