"""Batches reach the device while it works on the one before."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from densessl.views.photometry import moved


class DeviceBatches:
    """Batches on a GPU, each copied on a stream of its own while the device works on the batch
    before. Nothing else changes: not the values, nor their order.

    Args:
        fetch: gives the next batch on the host, in pinned memory.
        device: where batches are to be. (Without a GPU there is nothing to gain: batches would be
            read one ahead and handed on.)
        count: how many will be asked for; no more are fetched.
    """

    def __init__(self, fetch: Callable[[], dict[str, Any]], device: torch.device, count: int
                 ) -> None:
        self.fetch, self.device, self.left = fetch, device, count
        self.stream = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self.ahead: dict[str, Any] | None = None

    def next(self) -> dict[str, Any]:
        """The next batch; the one after it is on its way."""
        batch = self.ahead if self.ahead is not None else self._copied()
        if self.stream is not None:
            # the device waits, not the host; and what the batch occupies is not given to the next
            # copy before the work that is queued from here on is done
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            for views in batch.values():
                for tensor in views if isinstance(views, list) else ():
                    if tensor.is_cuda:
                        tensor.record_stream(current)
        self.ahead = self._copied() if self.left else None
        return batch

    def _copied(self) -> dict[str, Any]:
        self.left -= 1
        batch = self.fetch()
        with torch.cuda.stream(self.stream):      # of None: where it is
            return moved(batch, self.device)
