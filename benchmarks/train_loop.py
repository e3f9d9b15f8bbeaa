"""Host time of a training step above a bare PyTorch loop.

    python benchmarks/train_loop.py [--steps 2000] [--rounds 5]

A model of one layer is trained on the same loader's batches, with the same preprocessor and the
same optimizer, by three loops in turn within one process: a bare ``for`` loop, a training run as
``densessl train`` builds it (reseeding, schedule, logging to files, checkpoints, signal handling),
and mmengine's own Runner with its default hooks. Times are between the starts of two forward
passes, on the wall and of the main thread's CPU (which other programs disturb less); the mean
counts the steps that log or write a checkpoint, too.
"""
from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from densessl.config import load_config
from densessl.images.image_list import ImageList
from densessl.method import Method, View
from densessl.planning.plan import make_plan
from densessl.registry import METHODS
from densessl.training.train import build_runner
from densessl.views.dataset import ViewDataset, build_loader
from densessl.views.photometry import ViewPreprocessor
from densessl.views.sampler import Position
from densessl.views.view import AugmentedView, make_views

BATCH, SIDE = 4, 8
STARTS: list[tuple[float, float]] = []   # of the forward passes: time on the wall and of the CPU


class Convolution(nn.Conv2d):
    """A backbone of one layer: a tuple of one feature map, as backbones return."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (super().forward(image),)


@METHODS.register_module(name='one_layer')
class OneLayer(Method):
    """The smallest method: one linear layer, so that all there is to see is the loop."""

    def __init__(self, backbone: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.backbone = Convolution(3, 4, 1)

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        STARTS.append((time.perf_counter(), time.thread_time()))
        maps = [self.backbone(view.image)[-1] for view in views]
        return {'loss': sum(one.square().mean() for one in maps)}


class OneSample(ViewDataset):
    """The same sample at every position: reading images is another benchmark's subject."""

    def __init__(self, length: int) -> None:
        names = ImageList.of(Path('none'), Path('none'), [b'image'] * length)
        views = [AugmentedView(size=SIDE, flip=0)] * 2
        super().__init__(names, None, views)
        self.sample = make_views(views, np.random.default_rng(0),
                                 np.full((SIDE, SIDE, 3), 128, np.uint8), None, uniforms=64)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        return self.sample


def one_layer() -> Method:
    """The method as the engine builds it."""
    method = METHODS.build(dict(type='one_layer'))
    method.data_preprocessor = ViewPreprocessor()
    return method


def bare(steps: int, folder: Path) -> None:
    """What a user would write by hand: nothing but the training."""
    loader = iter(build_loader(OneSample(BATCH * steps), batch_size=BATCH, num_workers=0))
    model = one_layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    for _ in range(steps):
        loss = model(**model.data_preprocessor(next(loader), True))['loss']
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def ours(steps: int, folder: Path) -> None:
    """The run that ``densessl train`` builds, with the demo config's intervals of a long run."""
    cfg = load_config('simclr_r50', {
        'epochs': 1, 'train_dataloader.batch_size': BATCH, 'train_dataloader.num_workers': 0,
        'checkpoint.every_epochs': 0.1, 'schedule.warmup_epochs': 0})
    cfg.model = dict(type='one_layer', backbone=dict(type='one convolution'))
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', momentum=0.9))
    plan = make_plan(cfg, epochs=1, images=BATCH * steps, processes=1)
    build_runner(cfg, 'one_layer', plan, OneSample(BATCH * steps), folder, 'none', False).train()


def stock(steps: int, folder: Path) -> None:
    """mmengine's Runner with its default hooks."""
    Runner(model=one_layer(), work_dir=str(folder),
           train_dataloader=build_loader(OneSample(BATCH * steps), batch_size=BATCH,
                                         num_workers=0),
           optim_wrapper=dict(type='OptimWrapper',
                              optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
           param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False, T_max=steps),
           train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
           default_hooks=dict(
               logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
               checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=steps // 10)),
           log_processor=dict(by_epoch=False), default_scope='mmengine',
           experiment_name=folder.name).train()


def profile(loop: Any, steps: int, folder: Path) -> None:
    """Print where the host's time goes in one loop."""
    with cProfile.Profile() as profiler:
        loop(steps, folder)
    pstats.Stats(profiler).sort_stats('tottime').print_stats(30)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--profile', choices=['bare', 'ours', 'stock'])
    args = parser.parse_args()
    torch.set_num_threads(1)
    loops = {'bare': bare, 'ours': ours, 'stock': stock}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, 'w') as nowhere:
        if args.profile:
            profile(loops[args.profile], args.steps, Path(folder) / 'profile')
            return
        for turn in range(args.rounds):
            for name, loop in loops.items():
                STARTS.clear()
                with redirect_stdout(nowhere), redirect_stderr(nowhere):
                    loop(args.steps, Path(folder) / f'{name}_{turn}')
                wall, cpu = np.diff(STARTS[100:], axis=0).T * 1e3      # the first ones warm up
                results[name].append({
                    'median': float(np.median(wall)), 'mean': float(np.mean(wall)),
                    'last tenth': float(np.median(wall[-len(wall) // 10:])),
                    'CPU time': float(np.median(cpu)), 'mean CPU time': float(np.mean(cpu))})
    report(results, args)


def report(results: dict[str, list[dict[str, float]]], args: argparse.Namespace) -> None:
    """One line a loop: the medians over the rounds."""
    print(f'one layer, batch {BATCH}, {args.steps} steps, medians of {args.rounds} rounds; '
          f'milliseconds a step (above bare)')
    middle = {name: {key: statistics.median(r[key] for r in rows) for key in rows[0]}
              for name, rows in results.items()}
    print(f'{"":>8} ' + ' '.join(f'{key:>18}' for key in middle['bare']))
    for name, row in middle.items():
        cells = [f'{row[key]:.3f} ({row[key] - middle["bare"][key]:+.3f})' for key in row]
        print(f'{name:>8} ' + ' '.join(f'{cell:>18}' for cell in cells))


if __name__ == '__main__':
    main()
