"""Handlers of SIGINT and SIGTERM that belong to one process: what it forks does not take them over.

Helpers of ``multiprocessing``, such as of an evaluation's ``Pool``, are ended by SIGTERM and then
waited for. A handler of Python's cannot promise that they end: the signal may come before the new
process runs Python, and is forgotten. So both signals are held back while a process forks, and mean
in the new one, from its first moment, what they meant before the run. A helper then keeps working
when a signal to the whole group asks the run to stop, as the run waits for what it computes.
"""
from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.util import register_after_fork
from threading import current_thread, get_ident, main_thread
from typing import Any

from densessl.views.workers import outlive_signals

NUMBERS = (signal.SIGINT, signal.SIGTERM)

taken: list[ProcessSignals] = []
"""What is in force, innermost run last."""

_masks: dict[int, set[signal.Signals]] = {}     # by forking thread: what it blocked otherwise
_forked: list[int] = []                         # this process, if it is a run's helper


class ProcessSignals:
    """SIGINT and SIGTERM call ``handler`` in this process, from :meth:`take` to
    :meth:`give_back`. Helpers that ``multiprocessing`` forks meanwhile are ended by nobody but this
    process."""

    def __init__(self, handler: Callable[[int, Any], None]) -> None:
        self.handler = handler
        self.previous: dict[int, Any] = {}

    def take(self) -> None:
        """Install the handler, unless it is installed. Only the main thread hears of signals:
        in another there is nothing to take."""
        if current_thread() is not main_thread() or self in taken:
            return
        taken.append(self)      # first, and removed last: who forks in between must know of it
        for number in NUMBERS:
            self.previous[number] = signal.signal(number, self.handler)

    def give_back(self) -> None:
        """Let signals do again what they did before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
        if self in taken:
            taken.remove(self)


@contextmanager
def given_back_after_failure(*but: type[BaseException]) -> Iterator[None]:
    """What is taken within is given back when it fails, unless by one of ``but``."""
    before = taken.copy()
    try:
        yield
    except but:
        raise
    except BaseException:
        if current_thread() is main_thread():
            for one in reversed([one for one in taken if one not in before]):
                one.give_back()
        raise


def _before_fork() -> None:
    if taken:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def _in_parent() -> None:
    if get_ident() in _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(get_ident()))


def _in_child() -> None:
    if get_ident() in _masks:
        while taken:
            taken[-1].give_back()
        _forked[:] = [os.getpid()]
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(get_ident()))


def _in_helper(_: Any) -> None:
    if os.getpid() in _forked:
        outlive_signals()


if hasattr(os, 'register_at_fork') and hasattr(signal, 'pthread_sigmask'):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
    register_after_fork(_in_helper, _in_helper)     # of multiprocessing, within its helpers alone
