"""The largest batch that fits the device, found by real steps: ``densessl train --find-batch``."""
from __future__ import annotations

import copy
import gc
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine import Config, ConfigDict
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from densessl.devices.backends import Backends
from densessl.devices.memory import GIB, limited_memory
from densessl.devices.placement import placed
from densessl.devices.prefetch import DeviceBatches
from densessl.environment import is_out_of_memory
from densessl.errors import RunFailed, UsageError
from densessl.method import Method
from densessl.planning.configured import configure
from densessl.planning.start import new_start
from densessl.registry import METHODS
from densessl.views.collate import collate
from densessl.views.photometry import ViewPreprocessor
from densessl.views.view import make_views, view_class_of

UNIT = 8             # batches are tried in multiples of it, which is what GPUs compute fast
MOST = 2 ** 14       # images; no device holds more of any size that is worth training on
SIDE, REGIONS = 256, 64     # of the synthetic image in pixels, and of its label map
DRAWN = 8            # samples that are drawn; a batch repeats them
TRIED, TIMED = 3, 8  # steps: until the optimizer's state is there, and to tell the speed


@dataclass(frozen=True)
class Found:
    """The largest batch that fits.

    Attributes:
        batch: images a process and iteration.
        images_per_s: speed of its steps, without reading images.
        peak: bytes of memory that they took.
    """

    batch: int
    images_per_s: float
    peak: int


def find_batch(config: str, *, options: Mapping[str, Any] | None = None,
               epochs: int | None = None, memory_limit: float | None = None,
               init: Mapping[str, Any] | None = None,
               say: Callable[[str], Any] = print) -> Found:
    """Train on synthetic views in batches that are doubled until they do not fit, then bisected.
    Nothing is read but the config, and nothing is written.

    Args:
        config, options, epochs, init: as of :func:`densessl.training.train.train`.
        memory_limit: GiB that may be used; None: all that the GPU has. On a CPU the tensors of a
            step are counted instead, and a limit must be given.
        say: takes the lines that tell what is tried.

    Raises:
        UsageError: a wrong config, or a CPU without a limit.
        RunFailed: not even two images fit.
    """
    device = torch.device(get_device())
    if device.type == 'cuda':       # with its number, which some calls want
        device = torch.device('cuda', torch.cuda.current_device())
    if memory_limit is not None and not memory_limit > 0:
        raise UsageError(f'--memory-limit {memory_limit:g}: more than 0 GiB')
    if device.type != 'cuda' and memory_limit is None:
        raise UsageError('--find-batch fills the memory of a GPU, and there is none here; with '
                         '--memory-limit GIB the tensors of a step are counted on the CPU instead')
    configured = configure(config, options, epochs, init, new_start)
    trial = Trial(configured.cfg, configured.method, device)
    limit = None if memory_limit is None else memory_limit * GIB
    with Backends.of(configured.cfg).applied(), limited_memory(device, limit) as peak:
        say(f'{configured.cfg.model.type}: {configured.cfg.model.backbone.type} on '
            f'{_spelled(device, memory_limit)}'
            + (', not compiled' if configured.cfg.get('compile') else ''))
        found = _found(trial, peak, say)
    if found is None:
        raise RunFailed(f'not even {UNIT // 4} images fit: take smaller views, a smaller network, '
                        f'bfloat16 or gradient_checkpointing=True')
    say(f'the largest batch that fits: {found.batch} images a process ({found.peak / GIB:.2f} '
        f'GiB), {found.images_per_s:.1f} images/s without reading images; --cfg-options '
        f'train_dataloader.batch_size={found.batch}')
    return found


def _found(trial: Trial, peak: Callable[[], int], say: Callable[[str], Any]) -> Found | None:
    def fits(batch: int) -> bool:
        seconds = trial.seconds(batch, TRIED)
        held = peak()       # asked in any case: what was held when it failed is nobody's
        say(f'{batch:>6} images: ' + ('do not fit' if seconds is None else f'{held / GIB:.2f} GiB'))
        return seconds is not None
    batch = largest(fits)
    while batch:
        seconds = trial.seconds(batch, TRIED + TIMED)
        if seconds is not None:
            return Found(batch, batch / seconds, peak())
        batch -= min(UNIT, batch)      # it fitted by a hair
    return None


def largest(fits: Callable[[int], bool], most: int = MOST) -> int:
    """The largest multiple of :data:`UNIT` up to ``most`` that fits, if sizes up to some one do; of
    smaller sizes half and a quarter of it are tried. 0 if none fits."""
    low, high = 0, UNIT
    while high <= most and fits(high):
        low, high = high, 2 * high
    if not low:
        return next((small for small in (UNIT // 2, UNIT // 4) if fits(small)), 0)
    if high > most:
        return low
    between = range(low + UNIT, high, UNIT)
    return low + UNIT * bisect_left(between, True, key=lambda size: not fits(size))


class Trial:
    """Steps of a config's method on synthetic views, each time begun anew.

    Args:
        cfg: a checked config; method: its method.
    """

    def __init__(self, cfg: Config, method: type[Method], device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        self.method = METHODS.build(cfg.model.to_dict())
        self.method.data_preprocessor = ViewPreprocessor(**cfg.normalization)
        self.wrapper = cfg.optim_wrapper.to_dict()
        self.wrapper['optimizer']['lr'] = 0.0     # speed and memory are those of any rate
        self.drawn = collate(_samples(cfg, method))

    def seconds(self, batch: int, steps: int) -> float | None:
        """Take steps; return how long one of the last took, or None if the memory is full."""
        try:
            return self._train(batch, steps)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        finally:
            gc.collect()
            if self.device.type == 'cuda':
                torch.cuda.empty_cache()
        return None

    def _train(self, batch: int, steps: int) -> float:
        method, _ = placed(copy.deepcopy(self.method), self.cfg)
        method.train()
        wrapper = build_optim_wrapper(method, ConfigDict(copy.deepcopy(self.wrapper)))
        host = self._batch(batch)
        batches = DeviceBatches(lambda: host, self.device, steps)
        warm = min(TRIED, steps) - 1
        start = 0.0
        for step in range(steps):
            if step == warm:
                self._wait()
                start = time.perf_counter()
            method.train_step(batches.next(), wrapper)
            method.after_step(step, steps)
        self._wait()
        return (time.perf_counter() - start) / (steps - warm)

    def _batch(self, size: int) -> dict[str, Any]:
        def repeated(tensor: Tensor) -> Tensor:
            tensor = tensor[torch.arange(size) % DRAWN]
            return tensor.pin_memory() if self.device.type == 'cuda' else tensor
        return {key: list(map(repeated, views)) if isinstance(views, list) else views
                for key, views in self.drawn.items()}

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)


def _samples(cfg: Config, method: type[Method]) -> list[dict[str, Any]]:
    """Samples of noise as the config's views make them, with a label map of squares and the label
    0 for methods that need them."""
    rng = np.random.default_rng(0)
    views = [view_class_of(method)(**view) for view in cfg.views]
    image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    side = round(REGIONS ** 0.5)
    places = np.arange(SIDE) * side // SIDE
    mask = (places[:, None] * side + places).astype(np.uint8) if method.needs_masks else None
    samples = [make_views(views, rng, image, mask, cfg.uniforms) for _ in range(DRAWN)]
    if method.needs_labels:
        samples = [{**sample, 'target': [0] * len(views)} for sample in samples]
    return samples


def _spelled(device: torch.device, memory_limit: float | None) -> str:
    if device.type != 'cuda':
        return f'a CPU, tensors counted, limit {memory_limit:g} GiB'
    properties = torch.cuda.get_device_properties(device)
    limit = '' if memory_limit is None else f', limit {memory_limit:g} GiB'
    return f'{properties.name}, {properties.total_memory / GIB:.1f} GiB{limit}'
