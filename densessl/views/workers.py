"""What worker processes are told at their start."""
from __future__ import annotations

import os
import signal
import threading

import cv2
import torch

_outliving: list[int] = []      # this process, if it was told so; a forked one takes the list over


def prepare_worker(worker: int) -> None:
    """Prepare a loader's worker process: one thread, and no death by the run's own signals."""
    cv2.setNumThreads(0)    # workers are the parallelism; threads in them fight over the cores
    torch.set_num_threads(1)
    outlive_signals()


def outlive_signals() -> None:
    """Ctrl-C, torchrun and schedulers signal a run's whole process group; the training process
    must still get the batches of the iterations until it stops. The worker ends with it, or when
    it, and nobody else, sends SIGTERM. More than once is harmless."""
    if os.getpid() in _outliving:
        return
    _outliving[:] = [os.getpid()]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):      # macOS
        return
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in (parent, os.getpid()):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
