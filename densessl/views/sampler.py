"""One infinite sequence of samples: position n names the image and the sample's randomness."""
from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Position = tuple[int, int]   # (n, index of the image)


class PositionSampler(Sampler[Position]):
    """Position n = epoch · N + i is image ``permutation(seed, epoch)[i]``.

    A global batch is ``world_size · batch_size`` consecutive positions; rank r takes the r-th
    contiguous slice of it. Batches run across the ends of epochs, nothing is dropped.

    Args:
        length: N, the number of images.
        batch_size: samples a rank takes of each global batch.
    """

    def __init__(self, length: int, batch_size: int, *, seed: int = 0, rank: int = 0,
                 world_size: int = 1) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.start = 0   # how many of this rank's samples to leave out

    def skip(self, num_samples: int) -> None:
        """Begin after this rank's first ``num_samples``; so resuming costs nothing."""
        self.start = num_samples

    def __len__(self) -> int:
        """Endless; mmengine's logger asks for a length."""
        return sys.maxsize

    def __iter__(self) -> Iterator[Position]:
        order, epoch_of_order = None, -1
        step, offset = divmod(self.start, self.batch_size)
        while True:
            first = (step * self.world_size + self.rank) * self.batch_size
            for n in range(first + offset, first + self.batch_size):
                epoch, i = divmod(n, self.length)
                if epoch != epoch_of_order:
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
                    epoch_of_order = epoch
                yield n, int(order[i])
            step, offset = step + 1, 0
