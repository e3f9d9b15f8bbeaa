"""Which of several processes this one is, as torchrun, Slurm or MPI says, and how they meet."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from densessl.errors import UsageError, shown

PORT = 29500         # torch's own default
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
# what starts the processes, and its names of their number, the rank, and both on the node
SAID_BY = {'pytorch': ('torchrun', 'WORLD_SIZE', 'RANK', 'LOCAL_WORLD_SIZE', 'LOCAL_RANK'),
           'mpi': ('mpirun', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK',
                   'OMPI_COMM_WORLD_LOCAL_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK')}


@dataclass(frozen=True)
class Launch:
    """The processes of a run.

    Attributes:
        nodes, counts: the nodes' names, and how many processes each has; ranks go from node to
            node.
        address, port: where rank 0 is met.
        rank, local_rank: of this process, among all and on its node.
    """

    launcher: str
    nodes: tuple[str, ...] = ('this machine',)
    counts: tuple[int, ...] = (1,)
    address: str = '127.0.0.1'
    port: int = PORT
    rank: int = 0
    local_rank: int = 0

    @property
    def processes(self) -> int:
        return sum(self.counts)

    def place(self, rank: int) -> str:
        """A rank with its node, for messages."""
        nodes = [node for node, count in zip(self.nodes, self.counts, strict=True)
                 for _ in range(count)]
        return f'rank {rank} ({nodes[rank]})' if rank < len(nodes) else f'rank {rank}'


def read_launch(launcher: str, layout: str | None = None,
                environ: Mapping[str, str] = os.environ) -> Launch:
    """Read from the environment what the launcher put there.

    Args:
        layout: 'NODESxPROCESSES', where the environment does not say how many there are, since
            nothing has been started.
        environ: instead of the process's own.

    Raises:
        UsageError: something is missing, or means nothing.
    """
    if launcher == 'none':
        return Launch('none')
    if layout is not None:
        nodes, each = _parse_layout(layout)
        return Launch(launcher, *_numbered(nodes, each), environ.get('MASTER_ADDR', 'node 0'),
                      _port(launcher, environ))
    return _of_slurm(environ) if launcher == 'slurm' else _of_equal_nodes(launcher, environ)


def _of_equal_nodes(launcher: str, environ: Mapping[str, str]) -> Launch:
    """As torchrun and mpirun say it, whose nodes have equally many processes."""
    starter, world_name, rank_name, each_name, local_name = SAID_BY[launcher]
    world = _number(environ, world_name, starter, least=1)
    rank = _number(environ, rank_name, starter)
    each = _number(environ, each_name, default=world, least=1)
    if launcher == 'mpi' and world > each and 'MASTER_ADDR' not in environ:
        raise UsageError('--launcher mpi on several nodes needs the address of rank 0: mpirun -x '
                         'MASTER_ADDR=HOST …')
    return Launch(launcher, *_numbered(max(1, world // each), each),
                  environ.get('MASTER_ADDR', '127.0.0.1'), _port(launcher, environ), rank,
                  _number(environ, local_name, default=rank % each))


def _of_slurm(environ: Mapping[str, str]) -> Launch:
    step = 'SLURM_STEP_NUM_TASKS' in environ
    tasks = 'SLURM_STEP_NUM_TASKS' if step else 'SLURM_NTASKS'
    world = _number(environ, tasks, 'srun', least=1)
    listed = environ.get('SLURM_STEP_NODELIST' if step else 'SLURM_JOB_NODELIST', '')
    nodes = expand_hosts(listed) or [environ.get('SLURMD_NODENAME', 'this machine')]
    per_node = environ.get('SLURM_STEP_TASKS_PER_NODE' if step else 'SLURM_TASKS_PER_NODE', '')
    counts = expand_counts(per_node)
    if len(counts) != len(nodes) or sum(counts) != world:
        counts = [world // len(nodes) + (i < world % len(nodes)) for i in range(len(nodes))]
    return Launch('slurm', tuple(nodes), tuple(counts), environ.get('MASTER_ADDR', nodes[0]),
                  _port('slurm', environ), _number(environ, 'SLURM_PROCID', default=0),
                  _number(environ, 'SLURM_LOCALID', default=0))


def _numbered(nodes: int, each: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(f'node {i}' for i in range(nodes)), (each,) * nodes


def _parse_layout(layout: str) -> tuple[int, int]:
    match = re.fullmatch(r'([1-9]\d{0,4})[x×]([1-9]\d{0,3})', layout)
    if not match:
        raise UsageError(f'--processes {shown(layout)}: NODESxPROCESSES, such as 2x8 for two nodes '
                         f'of eight')
    return int(match[1]), int(match[2])


def _port(launcher: str, environ: Mapping[str, str]) -> int:
    """The port that rank 0 listens at; of a Slurm job one of its own, since two may share a node.
    """
    if 'MASTER_PORT' in environ:
        return _number(environ, 'MASTER_PORT', launcher)
    job = environ.get('SLURM_JOB_ID', '')
    return 12000 + int(job) % 20000 if launcher == 'slurm' and job.isdecimal() else PORT


def _number(environ: Mapping[str, str], name: str, launcher: str = '',
            default: int | None = None, least: int = 0) -> int:
    value = environ.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise UsageError(f'{name} is not set: {launcher} sets it for every process that it starts; '
                         f'to see what a run would be without starting one, give --dry-run '
                         f'--processes NODESxPROCESSES')
    if not value.isdecimal() or int(value) < least:
        raise UsageError(f'{name}={shown(value)} in the environment must be a whole number from '
                         f'{least} on')
    return int(value)


def expand_hosts(text: str) -> list[str]:
    """Slurm's list of nodes, one by one: ``'a[01-02,5],b'`` → a01, a02, a5, b."""
    hosts: list[str] = []
    for part in re.findall(r'(?:[^,\[\]]|\[[^\]]*\])+', text):
        names = ['']
        for literal, ranges in re.findall(r'([^\[\]]+)|\[([^\]]*)\]', part):
            names = [name + end for name in names
                     for end in ([literal] if literal else _numbers(ranges))]
        hosts += names
    return hosts


def _numbers(ranges: str) -> list[str]:
    found: list[str] = []
    for one in ranges.split(','):
        first, dash, last = one.partition('-')
        if dash and first.isdecimal() and last.isdecimal():
            found += [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
        else:
            found.append(one)
    return found


def expand_counts(text: str) -> list[int]:
    """Slurm's tasks of the nodes: ``'4(x2),3'`` → 4, 4, 3."""
    counts: list[int] = []
    for count, times in re.findall(r'(\d+)(?:\(x(\d+)\))?', text):
        counts += [int(count)] * int(times or 1)
    return counts
