"""What a process has of the machine: cores, how its threads wait for each other on them, and its
share of a job."""
from __future__ import annotations

import math
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from densessl.errors import UsageError

QUOTA = Path('/sys/fs/cgroup/cpu.max')     # of a container: 'microseconds period', or 'max period'
# Rounds that a thread of GNU OpenMP looks for work before it sleeps. Its own default, 300 000,
# is milliseconds: a thread that waits at a barrier then uses up the share of the core that the
# others need to get there. On two cores with 18 processes wanting them, a training step took
# 13.3 s and 2.1 s of CPU time so, and 0.7 s and 0.25 s with 1000 rounds.
ROUNDS = 1000
BY_QUOTA = 'DENSESSL_THREADS_BY_QUOTA'     # OMP_NUM_THREADS is not the user's own word


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
    if _by_quota() is not None and 'OMP_NUM_THREADS' not in environment:
        environment.update({'OMP_NUM_THREADS': str(cores()), BY_QUOTA: '1'})


def with_threads(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """``environment`` of a process that gets a share of the cores; what the user has set stays."""
    own = dict(environment)
    if 'OMP_NUM_THREADS' not in own or BY_QUOTA in own:
        own |= {'OMP_NUM_THREADS': str(threads), BY_QUOTA: '1'}
    return own


def shard_of_job(environment: Mapping[str, str]) -> tuple[int, int, str]:
    """This process's share of the work.

    ``torchrun`` numbers its processes by RANK; Slurm numbers the tasks of an array and, in each,
    the processes that ``srun`` starts (a batch script itself is not one of them, although Slurm
    tells it how many it may start).

    Args:
        environment: of the process, as ``os.environ``.

    Returns:
        (I, N, who says so): share I of N, (0, 1, '') for a process that is alone.

    Raises:
        UsageError: an array whose numbers leave gaps.
    """
    def number(name: str, default: int) -> int:
        try:
            return int(environment[name])
        except (KeyError, ValueError):
            return default

    if number('WORLD_SIZE', 1) > 1 and 'RANK' in environment:
        return number('RANK', 0), number('WORLD_SIZE', 1), 'RANK of WORLD_SIZE'
    tasks = number('SLURM_STEP_NUM_TASKS', 1)
    count = number('SLURM_ARRAY_TASK_COUNT', 1)
    if tasks * count <= 1:
        return 0, 1, ''
    i = 0
    if count > 1:
        first, stride = number('SLURM_ARRAY_TASK_MIN', 0), number('SLURM_ARRAY_TASK_STEP', 1) or 1
        last = number('SLURM_ARRAY_TASK_MAX', first + stride * (count - 1))
        if (last - first) // stride + 1 != count:
            raise UsageError(f'the {count} tasks of this array are not numbered evenly from '
                             f'{first} to {last}, so no task knows its share: give --shard I/N')
        i = (number('SLURM_ARRAY_TASK_ID', first) - first) // stride
    if tasks > 1:
        i = i * tasks + number('SLURM_PROCID', 0)
    return i, tasks * count, 'Slurm'
