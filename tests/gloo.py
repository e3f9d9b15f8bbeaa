"""Two gloo processes on this machine."""
from __future__ import annotations

import os
import socket

import torch
import torch.multiprocessing as mp
from torch import distributed

WORLD = 2


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def _entry(rank, port, function, results):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', rank=rank, world_size=WORLD)
    results[rank] = function(rank)
    distributed.destroy_process_group()


def on_two_processes(function):
    """Run ``function(rank)`` on two gloo processes; return what they return, by rank."""
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_entry, args=(free_port(), function, results), nprocs=WORLD)
        return [results[rank] for rank in range(WORLD)]


def half(tensor, rank):
    return tensor.chunk(WORLD)[rank]
