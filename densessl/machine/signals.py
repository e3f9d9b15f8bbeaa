"""SIGINT and SIGTERM belong to one process: what it forks does not take its handlers over.

Helpers of ``multiprocessing``, such as of an evaluation's ``Pool``, are ended by SIGTERM and then
waited for. A handler of Python's cannot promise that they end: the signal may come before the new
process runs Python, and is forgotten. So both signals are held back while a process forks, and mean
in the new one, from its first moment, what they meant before the run. A helper then keeps working
when a signal to the whole group asks the run to stop, as the run waits for what it computes.

Nothing of this is in force before a run takes the signals.
"""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.util import register_after_fork
from typing import Any, ClassVar

NUMBERS = (signal.SIGINT, signal.SIGTERM,       # and that of schedulers, which Windows has not
           *([signal.SIGUSR1] if hasattr(signal, 'SIGUSR1') else []))
OUTLIVING = 'outlives signals'      # the thread of a process that does


class ProcessSignals:
    """SIGINT and SIGTERM call ``handler`` in this process, from :meth:`take` to
    :meth:`give_back`. Helpers that ``multiprocessing`` forks in the meantime are ended by
    this process alone."""

    in_force: ClassVar[list[ProcessSignals]] = []
    """What is taken in this process, by its innermost run last."""

    def __init__(self, handler: Callable[[int, Any], None]) -> None:
        self.handler = handler
        self.previous: dict[int, Any] = {}

    def take(self) -> None:
        """Install the handler, unless it is installed. Only the main thread hears of signals:
        in another there is nothing to take."""
        if threading.current_thread() is not threading.main_thread() or self in self.in_force:
            return
        _watch_forks()
        self.in_force.append(self)      # first, and removed last: a fork in between must see it
        for number in NUMBERS:
            self.previous[number] = signal.signal(number, self.handler)

    def give_back(self) -> None:
        """Let signals do again what they did before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
        if self in self.in_force:
            self.in_force.remove(self)


@contextmanager
def given_back_after_failure(*but: type[BaseException]) -> Iterator[None]:
    """What is taken within is given back when it fails, unless by one of ``but``."""
    before = ProcessSignals.in_force.copy()
    try:
        yield
    except but:
        raise
    except BaseException:
        if threading.current_thread() is threading.main_thread():
            for signals in reversed(ProcessSignals.in_force.copy()):
                if signals not in before:
                    signals.give_back()
        raise


def outlive_signals() -> None:
    """Ctrl-C, torchrun and schedulers signal a run's whole process group; the training process
    must still get the batches of the iterations until it stops. The worker ends with it, or when
    it alone sends SIGTERM. Calling this again is harmless."""
    if any(thread.name == OUTLIVING for thread in threading.enumerate()):
        return
    for number in NUMBERS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):      # macOS
        return
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in (parent, os.getpid()):
            pass
        os._exit(0)

    threading.Thread(target=wait, name=OUTLIVING, daemon=True).start()


# -- while a process forks ------------------------------------------------------------------------

_forking = threading.local()    # what the forking thread blocked before; the helper that it became


@cache
def _watch_forks() -> None:
    if hasattr(os, 'register_at_fork') and hasattr(signal, 'pthread_sigmask'):
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent,
                            after_in_child=_in_child)
        register_after_fork(_in_helper, _in_helper)     # within helpers of multiprocessing alone


def _before_fork() -> None:
    if ProcessSignals.in_force:
        _forking.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def _in_parent() -> None:
    blocked = vars(_forking).pop('blocked', None)
    if blocked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _in_child() -> None:
    if hasattr(_forking, 'blocked'):
        while ProcessSignals.in_force:
            ProcessSignals.in_force[-1].give_back()
        _forking.helper = os.getpid()
        _in_parent()


def _in_helper(_: Any) -> None:
    if getattr(_forking, 'helper', None) == os.getpid():
        outlive_signals()
