"""How the processes of a run meet, and how they learn which of them is missing."""
from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from mmengine.device import get_device
from torch import distributed
from torch.distributed import DistNetworkError, DistStoreError, PrefixStore, Store, TCPStore

from densessl.engine.launch import Launch
from densessl.environment import is_lost_peer
from densessl.errors import RunFailed, UsageError

SLICE = 5.0          # seconds that are waited at a time, after which Python looks for signals
ROLL_CALL = 10.0     # seconds in which whoever is alive says so, after a connection was lost
NAMED = 8            # missing processes that a message names


class PeersLost(RunFailed):
    """Other processes of the run are gone or silent."""


def meet(launch: Launch, limit: timedelta) -> Store | None:
    """Initialize the process group of a launch: NCCL on GPUs, gloo on CPUs.

    Args:
        limit: how long a process waits for the others, now and later.

    Returns:
        Where processes leave word for one another; None if there is but one.

    Raises:
        UsageError: this process has no GPU of its own.
        PeersLost: some did not come; the message names them.
    """
    if launch.launcher == 'none':
        return None
    on_gpu = get_device() == 'cuda'
    if on_gpu:
        torch.cuda.set_device(_gpu_of(launch))
    store = _store(launch, limit)
    missing = roll_call(store, launch, 'here', limit.total_seconds())
    if missing:
        raise PeersLost(f'{_named(launch, missing)} did not come within '
                        f'{limit.total_seconds() / 60:g} minutes: the reason stands in the last '
                        f'lines of each; process_timeout sets the limit')
    # NCCL ends the process when its time is up: the exchange on the CPU, which can say who is
    # missing, is to notice it first
    patience = limit + timedelta(minutes=1) if on_gpu else limit
    distributed.init_process_group('nccl' if on_gpu else 'gloo', timeout=patience,
                                   store=PrefixStore('group', store), rank=launch.rank,
                                   world_size=launch.processes)
    return store


def _gpu_of(launch: Launch) -> int:
    """The GPU of this process: the one that it sees, or that of its number on the node."""
    seen = torch.cuda.device_count()
    if seen > 1 and launch.local_rank >= seen:
        raise UsageError(f'process {launch.local_rank} of this node has no GPU of its own: '
                         f'{seen} are there; start {seen} processes a node')
    return launch.local_rank % seen


def _store(launch: Launch, limit: timedelta) -> Store:
    if os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':     # torchrun's own
        return next(distributed.rendezvous('env://', timeout=limit))[0]
    first, deadline = launch.rank == 0, time.monotonic() + limit.total_seconds()
    while True:
        left = max(0.1, deadline - time.monotonic())
        try:
            store = TCPStore(launch.address, launch.port, None, first, wait_for_workers=False,
                             timeout=timedelta(seconds=min(SLICE, left)))
            store.set_timeout(limit)
            return store
        except (DistNetworkError, DistStoreError) as error:
            if first:
                raise RunFailed(
                    f'port {launch.port} cannot be listened at ({str(error).splitlines()[0]}): '
                    f'set MASTER_PORT to a free one, the same for all processes') from error
            if time.monotonic() >= deadline:
                raise PeersLost(
                    f'{launch.place(0)} did not answer at {launch.address}:{launch.port} within '
                    f'{limit.total_seconds() / 60:g} minutes: it was not started, or MASTER_ADDR '
                    f'and MASTER_PORT are not its own, or a firewall is between') from error


def roll_call(store: Store, launch: Launch, word: str, seconds: float) -> list[int]:
    """Leave ``word`` in the store, wait until all have, and return the ranks that have not. The
    first process, whose time may be up before the others', tells them, and leaves after them: it
    may keep the store."""
    store.set(f'{word}/{launch.rank}', '')
    words, verdict = [f'{word}/{rank}' for rank in range(launch.processes)], f'{word}/missing'
    deadline, pause = time.monotonic() + seconds, 0.02
    while not store.check(words):
        told = launch.rank > 0 and store.check([verdict])
        if told or time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    else:
        return []
    missing = (json.loads(store.get(verdict)) if told else
               [rank for rank in range(launch.processes) if not store.check([words[rank]])])
    store.set(f'{word}/{launch.rank}/told', '')
    if launch.rank == 0:
        store.set(verdict, json.dumps(missing))
        others = [f'{one}/told' for rank, one in enumerate(words) if rank not in missing]
        deadline = time.monotonic() + SLICE
        while not store.check(others) and time.monotonic() < deadline:
            time.sleep(0.02)
    return missing


@contextmanager
def missing_named(launch: Launch, store: Store | None) -> Iterator[None]:
    """Within, an error of a lost connection becomes one that names the processes that are gone.

    Raises:
        PeersLost: in the place of that error.
    """
    try:
        yield
    except RuntimeError as error:
        if store is None or isinstance(error, RunFailed) or not is_lost_peer(error):
            raise
        try:
            missing = roll_call(store, launch, 'alive', ROLL_CALL)
        except RuntimeError:        # the store went with the process that kept it
            missing = [0]
        if missing:
            raise PeersLost(f'{_named(launch, missing)} cannot be reached any more, so the others '
                            f'cannot go on: the reason stands in the last lines of each'
                            ) from error
        raise PeersLost('the connection between the processes broke, though all of them are '
                        'there: look at the network') from error


def _named(launch: Launch, ranks: list[int]) -> str:
    more = f' and {len(ranks) - NAMED} more' if len(ranks) > NAMED else ''
    return ', '.join(map(launch.place, ranks[:NAMED])) + more


@contextmanager
def together(launch: Launch, minutes: float) -> Iterator[tuple[Launch, Store | None]]:
    """The processes of a run: they meet before it, wait ``minutes`` at most for each other, and
    part after it; those that are gone are named."""
    lost = False
    with _environment(launch):
        try:
            store = meet(launch, timedelta(minutes=minutes))
            with missing_named(launch, store):
                yield launch, store
        except PeersLost:
            lost = True     # a group would wait for them to be destroyed together
            raise
        finally:
            if distributed.is_initialized() and not lost:
                distributed.destroy_process_group()


@contextmanager
def _environment(launch: Launch) -> Iterator[None]:
    """What libraries look for in the environment, whoever launched the processes."""
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    before = {name: os.environ[name] for name in names if name in os.environ}
    if launch.launcher != 'none':
        os.environ.update(RANK=str(launch.rank), WORLD_SIZE=str(launch.processes),
                          LOCAL_RANK=str(launch.local_rank), MASTER_ADDR=launch.address,
                          MASTER_PORT=str(launch.port))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
