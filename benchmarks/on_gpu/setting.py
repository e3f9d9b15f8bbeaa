"""What every measurement is told, and the device's clock and memory."""
from __future__ import annotations

import gc
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from densessl.machine.cores import cores
from densessl.machine.facts import machine_facts, versions

GIB = 2 ** 30


@dataclass(frozen=True)
class Setting:
    """Where and how to measure.

    Attributes:
        device: 'cuda', or 'cpu' to try every line but CUDA's own.
        small: tiny networks and few steps, whose figures mean nothing.
        data: images to pretrain on. probe: images with label maps.
        out: the folder of results. minutes: of pretraining, for each method of part `learns`.
    """

    device: str
    small: bool
    data: Path
    probe: Path
    out: Path
    minutes: float

    @property
    def on_gpu(self) -> bool:
        return self.device == 'cuda'

    def work(self, name: str) -> Path:
        """A folder to work in."""
        folder = self.out / 'work' / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def release(self) -> None:
        """Give cached memory back and begin to measure its peak anew."""
        gc.collect()        # runs hold themselves in circles
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """The most bytes allocated since :meth:`release`; 0 on the CPU."""
        return torch.cuda.max_memory_allocated() if self.on_gpu else 0

    def memory(self) -> int:
        """The device's bytes in all; 0 on the CPU."""
        return torch.cuda.mem_get_info()[1] if self.on_gpu else 0

    def seconds(self, function: Callable[[], Any], *, runs: int, warmup: int = 2) -> float:
        """The median of ``runs`` timings of ``function``, by CUDA events."""
        for _ in range(warmup):
            function()
        spans = Spans(self)
        for _ in range(runs):
            with spans.span('it'):
                function()
        return statistics.median(spans.each('it'))


class Spans:
    """Named stretches of work on the device, by CUDA events (on the CPU by the clock)."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def now(self) -> Any:
        """A mark in the device's stream of work."""
        if not self.setting.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.marks[name].append((start, self.now()))

    def watch(self, module: nn.Module, name: str) -> list[Any]:
        """Time every forward pass of ``module``; returns the hooks' handles, to be removed."""
        starts: list[Any] = []

        def before(*_: Any) -> None:
            starts.append(self.now())

        def after(*_: Any) -> None:
            self.marks[name].append((starts.pop(), self.now()))
        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def each(self, name: str) -> list[float]:
        """Seconds of each stretch of that name."""
        self.setting.synchronize()
        return [end - start if isinstance(end, float) else start.elapsed_time(end) / 1e3
                for start, end in self.marks[name]]

    def total(self, name: str) -> float:
        return sum(self.each(name))


def card(device: str) -> str:
    """The device's name."""
    return torch.cuda.get_device_name() if device == 'cuda' else 'CPU'


def facts(device: str) -> dict[str, str]:
    """Card, driver, processor and versions, in words."""
    found = {'card': card(device)}
    if device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        found['card'] = (f'{torch.cuda.device_count()} × {properties.name}, '
                         f'{properties.total_memory / GIB:.0f} GiB')
        found['driver'] = _driver()
    installed = versions()
    wanted = ('Python', 'densessl', 'torch', 'torchvision', 'timm', 'onedl-mmengine')
    software = [f'{name} {installed[name]}' for name in wanted if name in installed]
    if device == 'cuda':
        software += [f'CUDA {torch.version.cuda}', f'cuDNN {torch.backends.cudnn.version()}']
    return {**found, 'processor': machine_facts()['processor'], 'software': ', '.join(software),
            'cores': str(cores())}


def _driver() -> str:
    try:
        done = subprocess.run(
            ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'],
            capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 'unknown'
    return (done.stdout.split() or ['unknown'])[0]
