"""Which share of the work this process has, as told by the scheduler that started it."""
from __future__ import annotations

from collections.abc import Mapping

from densessl.errors import UsageError


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
