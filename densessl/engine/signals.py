"""Handlers of SIGINT and SIGTERM that belong to one process: what it forks does not take them over.

A forked helper, such as of an evaluation's ``multiprocessing.Pool``, is ended by SIGTERM and then
waited for. A handler of Python's cannot promise that it ends: the signal may come before the new
process runs Python, and is forgotten. So SIGTERM is held back while a process forks, and means in
the helper, from its first moment, what it meant before the run.
"""
from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)

taken: list[ProcessSignals] = []               # innermost run last
_masks: dict[int, set[signal.Signals]] = {}     # what a forking thread had blocked


class ProcessSignals:
    """SIGINT and SIGTERM call ``handler`` in this process, between :meth:`take` and
    :meth:`give_back`. Processes forked meanwhile ignore SIGINT, which a terminal sends to them,
    too, and die by SIGTERM."""

    def __init__(self, handler: Callable[[int, Any], None]) -> None:
        self.handler = handler
        self.previous: dict[int, Any] = {}

    def take(self) -> None:
        """Install the handler; only the main thread may. More than once is harmless."""
        if not self.previous:
            self.previous = {number: signal.signal(number, self.handler) for number in NUMBERS}
            taken.append(self)

    def give_back(self) -> None:
        """Let signals do again what they did before."""
        if self.previous:
            taken.remove(self)
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}


@contextmanager
def given_back_after_failure(*but: type[BaseException]) -> Iterator[None]:
    """What is taken within is given back when it fails, unless by one of ``but``."""
    before = len(taken)
    try:
        yield
    except but:
        raise
    except BaseException:
        while len(taken) > before:
            taken[-1].give_back()
        raise


def _before_fork() -> None:
    if taken:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def _in_parent() -> None:
    if get_ident() in _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(get_ident()))


def _in_helper() -> None:
    if get_ident() in _masks:
        while taken:
            taken[-1].give_back()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(get_ident()))


if hasattr(os, 'register_at_fork') and hasattr(signal, 'pthread_sigmask'):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent,
                        after_in_child=_in_helper)
