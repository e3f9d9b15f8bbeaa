"""Training steps: images/s beside a bare PyTorch loop, what each part takes, memory, options."""
from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook

from densessl.config import load_config
from densessl.errors import UsageError
from densessl.planning.optimizers import LARS
from on_gpu.models import BFLOAT16, CONFIGS, BareLoop, config_of, make_batch, make_runner, quietly
from on_gpu.record import Row
from on_gpu.setting import GIB, Setting, Spans

BATCH, STEPS, WARMUP = 256, 16, 6
SMALL_BATCH, SMALL_STEPS = 4, 4
KEPT_FREE = 0.04        # share of the memory that the largest batch leaves, for fragments
RATIO, PHOTOMETRY = 0.97, 0.03      # goals
OPTIONS: dict[str, dict[str, Any]] = {      # in the place of bfloat16, channels last
    'float32 (TF32 convolutions)': {'optim_wrapper.type': 'OptimWrapper'},
    'float16': {'optim_wrapper.type': 'AmpOptimWrapper'},
    'channels_last=False': {'channels_last': False},
    'cudnn_benchmark=False': {'cudnn_benchmark': False},
    'fused LARS': {'optim_wrapper.optimizer.fused': True},
}
COMPILED: dict[str, dict[str, Any]] = {'compile=True': {'compile': True}}


class Stopwatch(Hook):
    """Times the iterations of a run after the first ``warmup``, without the last, which logs (and
    then mmengine begins to measure the peak of the memory anew).

    Attributes:
        times: seconds at the start of the first and after the last of them.
        peak: the most bytes allocated until then.
    """

    priority = 'VERY_HIGH'

    def __init__(self, setting: Setting, warmup: int) -> None:
        self.setting, self.warmup = setting, warmup
        self.times: list[float] = []
        self.peak = 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter in (self.warmup, runner.max_iters - 1):
            self.setting.synchronize()
            self.times.append(time.perf_counter())
            self.peak = self.setting.peak()


def numbers(setting: Setting) -> tuple[int, int, int]:
    """Batch, timed steps, steps before them."""
    return (SMALL_BATCH, SMALL_STEPS, 1) if setting.small else (BATCH, STEPS, WARMUP)


def train(setting: Setting, method: str, options: dict[str, Any]
          ) -> tuple[Any, Any, float, int]:
    """Run training steps; returns the runner, its batch, the seconds a step takes, and the peak of
    the memory in bytes."""
    size, steps, warmup = numbers(setting)
    cfg = config_of(setting, method, options)
    batch = make_batch(cfg, size, pinned=setting.on_gpu)
    runner = make_runner(cfg, CONFIGS[method], [batch], warmup + steps + 1,
                         setting.work('steps'))
    watch = Stopwatch(setting, warmup)
    runner.register_hook(watch)
    setting.release()
    quietly(runner.train)
    start, end = watch.times
    return runner, batch, (end - start) / steps, watch.peak


def step(setting: Setting, method: str) -> list[Row]:
    """A method at batch 256 in bfloat16: ours, a bare loop, the shares of a step, its memory."""
    steps = numbers(setting)[1]
    runner, batch, ours, peak = train(setting, method, BFLOAT16)
    size = len(batch['image'][0])
    bare = BareLoop(runner.model, runner.optim_wrapper.optimizer, bfloat16=True)
    torch.backends.cudnn.benchmark = runner.cfg.get('cudnn_benchmark', False)    # as in the run
    turns = [timed(setting, bare, batch, steps) for _ in range(2)]
    ratio = statistics.mean(turns) / ours
    rows = [Row(f'{method}, batch {size}, bfloat16: images/s', f'{size / ours:.0f}'),
            Row(f'{method}: of what a bare PyTorch loop does', f'{ratio:.1%}', f'≥ {RATIO:.0%}',
                ratio >= RATIO),
            Row(f'{method}: the bare loop, twice: images/s',
                ' · '.join(f'{size / turn:.0f}' for turn in turns))]
    if peak:
        rows.append(Row(f'{method}, batch {size}: peak memory', f'{peak / GIB:.1f} GiB'))
    return [*rows, *shares(setting, bare, batch, method, steps)]


def timed(setting: Setting, bare: BareLoop, batch: Any, steps: int) -> float:
    """Seconds a step of the bare loop."""
    bare.step(batch)
    setting.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        bare.step(batch)
    setting.synchronize()
    return (time.perf_counter() - start) / steps


def shares(setting: Setting, bare: BareLoop, batch: Any, method: str, steps: int) -> list[Row]:
    """What share of a step each part takes, by events in the stream."""
    spans = Spans(setting)
    with watched(spans, bare):
        bare.step(batch)
        spans.marks.clear()
        for _ in range(steps):
            with spans.span('step'):
                bare.step(batch)
    whole = spans.total('step')
    forward = spans.total('method')
    networks = sum(spans.total(name) for name in ('online', 'target'))
    parts = {'copying and photometry': spans.total('photometry'),
             'forward, trained networks': spans.total('online'),
             'forward, target networks': spans.total('target'),
             'regions and loss': forward - networks,
             'optimizer': spans.total('optimizer'), 'target update': spans.total('update')}
    parts['backward and the rest'] = whole - sum(parts.values())
    rows = [Row(f'{method}: shares of a step', ', '.join(
        f'{name} {seconds / whole:.1%}' for name, seconds in parts.items() if seconds > 0))]
    seconds = photometry(setting, bare, batch)
    share = seconds * steps / whole
    rows.append(Row(f'{method}: photometry of both views', f'{seconds * 1e3:.2f} ms, {share:.1%} '
                    'of a step', f'≤ {PHOTOMETRY:.0%}', share <= PHOTOMETRY))
    return rows


def photometry(setting: Setting, bare: BareLoop, batch: Any) -> float:
    """Seconds that the preprocessor takes for a batch whose pixels are on the device."""
    there = {**batch, 'image': [one.to(setting.device) for one in batch['image']]}
    return setting.seconds(lambda: bare.model.data_preprocessor(there, True), runs=10)


@contextmanager
def watched(spans: Spans, bare: BareLoop) -> Iterator[None]:
    """Within, ``spans`` has the parts of the bare loop's steps."""
    model, handles = bare.model, []
    for name, module in model.named_children():
        if name != 'data_preprocessor':
            kind = 'target' if name.startswith('target_') else 'online'
            handles += spans.watch(module, kind)
    plain = model.data_preprocessor.forward, model.loss, bare.optimizer.step, model.after_step

    def spanned(function: Any, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with spans.span(name):
                return function(*args, **kwargs)
        return call
    model.data_preprocessor.forward = spanned(plain[0], 'photometry')
    model.loss, model.after_step = spanned(plain[1], 'method'), spanned(plain[3], 'update')
    bare.optimizer.step = spanned(plain[2], 'optimizer')
    try:
        yield
    finally:
        (model.data_preprocessor.forward, model.loss, bare.optimizer.step,
         model.after_step) = plain
        for handle in handles:
            handle.remove()


def largest(setting: Setting, method: str) -> list[Row]:
    """The largest batch that fits in bfloat16, and its rate."""
    cfg = config_of(setting, method, BFLOAT16)
    sizes = (2, 4) if setting.small else (64, 128)
    runner = make_runner(cfg, CONFIGS[method], [make_batch(cfg, sizes[0])], 2,
                         setting.work('largest'))
    quietly(runner.train)       # builds the optimizer
    bare = BareLoop(runner.model, runner.optim_wrapper.optimizer, bfloat16=True)
    while None in (peaks := [needed(setting, bare, cfg, size) for size in sizes]):
        sizes = sizes[0] // 2, sizes[1] // 2
    slope = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    size, step = sizes[1], sizes[0] // 2
    if slope > 0:
        free = setting.memory() * (1 - KEPT_FREE) - peaks[1]
        size += int(free / slope) // step * step
    while needed(setting, bare, cfg, size) is None:
        size -= step
    batch = make_batch(cfg, size, pinned=setting.on_gpu)
    seconds = timed(setting, bare, batch, 2 if setting.small else 5)
    rate = size / seconds
    return [Row(f'{method}: largest batch in bfloat16', f'{size}, {rate:.0f} images/s'
                + (f', {setting.peak() / GIB:.1f} GiB' if setting.on_gpu else ''))]


def needed(setting: Setting, bare: BareLoop, cfg: Any, size: int) -> int | None:
    """Peak bytes of two steps at that batch; None if it does not fit."""
    batch = make_batch(cfg, size)
    setting.release()
    try:
        for _ in range(2):
            bare.step(batch)
        setting.synchronize()
        return setting.peak()
    except torch.cuda.OutOfMemoryError:
        pass
    bare.optimizer.zero_grad()      # the error's traceback, which held tensors, is gone here
    getattr(bare.model, 'new_keys', []).clear()
    setting.release()
    return None


def options(setting: Setting, choices: Mapping[str, dict[str, Any]]) -> list[Row]:
    """DetCon-B with each option in turn, beside bfloat16 and channels last."""
    size = numbers(setting)[0]
    base = train(setting, 'DetCon-B', BFLOAT16)[2]
    rows = [Row(f'DetCon-B, batch {size}, bfloat16, channels last', f'{size / base:.0f} images/s')]
    for name, changed in choices.items():
        if reason := impossible(setting, changed):
            rows.append(Row(f'… {name}', reason))
            continue
        chosen = {**BFLOAT16, **changed}
        if name == 'compile=True' and setting.small:
            chosen['compile'] = {'backend': 'eager'}        # needs no compiler
        try:
            seconds = train(setting, 'DetCon-B', chosen)[2]
        except (RuntimeError, ValueError, UsageError) as error:     # the others are worth a row
            rows.append(Row(f'… {name}', f'failed: {str(error).splitlines()[0][:200]}', 'runs',
                            False))
        else:
            rows.append(Row(f'… {name}', f'{size / seconds:.0f} images/s, {base / seconds:.2f} ×'))
    return rows


def impossible(setting: Setting, changed: dict[str, Any]) -> str:
    """Why an option cannot be had here; ``''`` if it can."""
    if 'AmpOptimWrapper' in changed.values() and not setting.on_gpu:
        return 'needs a GPU'
    known = load_config(CONFIGS['DetCon-B'])
    fused = 'fused' in inspect.signature(LARS.__init__).parameters
    missing = (('optim_wrapper.optimizer.fused' in changed and not fused)
               or ('cudnn_benchmark' in changed and 'cudnn_benchmark' not in known))
    return 'not in this version' if missing else ''
