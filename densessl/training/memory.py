"""How much memory a training step may take: a GPU's own limit, or one that is counted."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2 ** 30


class CountedMemory(TorchDispatchMode):
    """Within, tensors that are alive may take ``limit`` bytes together; one that goes beyond it
    ends as on a GPU that is full. It counts what operations make, not what was there before, nor
    the memory that PyTorch's libraries take for themselves.

    Attributes:
        held, peak: bytes now, and the most at any time.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.held, self.peak = limit, 0, 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        if self.held > self.limit:
            raise torch.cuda.OutOfMemoryError(
                f'out of memory: {self.held / GIB:.2f} GiB are held, {self.limit / GIB:.2f} GiB '
                f'are allowed')
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self.known or not size:
            return
        self.known.add(place)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._freed, place, size).atexit = False

    def _freed(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.held -= size


@contextmanager
def limited_memory(device: torch.device, limit: float | None) -> Iterator[Callable[[], int]]:
    """Within, at most ``limit`` bytes are given out: by the GPU's allocator, or counted on a CPU.

    Args:
        limit: bytes; None: what the GPU has.

    Yields:
        What tells the most that was held since the last question, in bytes.
    """
    if device.type != 'cuda':
        with CountedMemory(float('inf') if limit is None else limit) as counted:
            def peak() -> int:
                highest, counted.peak = counted.peak, counted.held
                return highest
            yield peak
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (limit or total) / total), device)
    torch.cuda.reset_peak_memory_stats(device)

    def peak() -> int:
        highest = torch.cuda.max_memory_reserved(device)
        torch.cuda.reset_peak_memory_stats(device)
        return highest
    try:
        yield peak
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
