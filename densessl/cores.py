"""The CPU cores a process may use, and how its threads wait for each other on them."""
from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

QUOTA = Path('/sys/fs/cgroup/cpu.max')     # of a container: 'microseconds period', or 'max period'
# Rounds that a thread of GNU OpenMP looks for work before it sleeps. Its own default, 300 000,
# is milliseconds: a thread that waits at a barrier then uses up the share of the core that the
# others need to get there. On two cores with 18 processes wanting them, a training step took
# 13.3 s and 2.1 s of CPU time so, and 0.7 s and 0.25 s with 1000 rounds.
ROUNDS = 1000


def cores() -> int:
    """How many cores this process may use: those it may run on, or fewer by its container's share
    of CPU time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') \
        else os.cpu_count() or 1
    return min(allowed, _by_quota() or allowed)


def _by_quota() -> int | None:
    """The CPU time that the container may take, in whole cores; None if there is no bound."""
    try:
        microseconds, period = QUOTA.read_text().split()
        return None if microseconds == 'max' else max(1, math.ceil(int(microseconds) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let the threads of this process and of those that it starts share the cores with others:
    have them sleep where they wait, and be no more than may run. What the user has set stays.

    To be called before a library with threads is loaded, which reads the environment then. It
    changes no result but by the number of threads in a container with a bound.
    """
    if 'OMP_WAIT_POLICY' not in environment:
        environment.setdefault('GOMP_SPINCOUNT', str(ROUNDS))
    if _by_quota() is not None:
        environment.setdefault('OMP_NUM_THREADS', str(cores()))
