"""What each option of the training loop is worth on this machine.

    python benchmarks/train_options.py [--steps 12] [--rounds 3] [--size 128] [--batch 16]

Steps of DetCon-B on ResNet-18, on one batch that is there already, by the runs that ``densessl
train`` would build with each option, in turn; then what an update costs beside the backward pass,
for the parameters of ResNet-50. CPU time of the process, medians.
"""
from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import nn

from densessl.backbones import build_backbone
from densessl.config import load_config
from densessl.ema import ema_update, target_of
from densessl.images.image_list import ImageList
from densessl.planning.optimizers import LARS
from densessl.planning.plan import make_plan
from densessl.training.train import build_runner
from densessl.views.dataset import ViewDataset
from densessl.views.sampler import Position
from densessl.views.view import AugmentedView, make_views

OPTIONS: dict[str, dict[str, Any]] = {
    'as it is': {},
    'channels_last=False': {'channels_last': False},
    'bfloat16 autocast': {'optim_wrapper.type': 'BFloat16OptimWrapper'},
    'compile=True': {'compile': True},
    'SGD fused=True': {'optim_wrapper.optimizer.fused': True},
    'SGD foreach=True': {'optim_wrapper.optimizer.foreach': True},
}


class OneSample(ViewDataset):
    """The same noise with the same sixteen regions at every position."""

    def __init__(self, cfg: Any, length: int) -> None:
        names = ImageList.of(Path('none'), Path('none'), [b'image'] * length)
        views = [AugmentedView(**view) for view in cfg.views]
        super().__init__(names, None, views)
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (256, 256, 3), np.uint8)
        mask = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((64, 64), np.uint8))
        self.sample = make_views(views, rng, image, mask, cfg.uniforms)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        return self.sample


class Clock(Hook):
    """CPU time at the end of each iteration."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.process_time())


def step_time(options: dict[str, Any], args: argparse.Namespace, folder: Path) -> float:
    """Median CPU milliseconds of a step."""
    cfg = load_config('small/detcon_r18', {
        'views.0.size': args.size, 'views.1.size': args.size, 'train_dataloader.num_workers': 0,
        'train_dataloader.batch_size': args.batch, 'visualizer': None, **options})
    clock = Clock()
    length = args.batch * (args.steps + 4)
    plan = make_plan(cfg, epochs=1, images=length, processes=1)
    cfg.checkpoint.every_epochs = 2
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        runner = build_runner(cfg, 'small/detcon_r18', plan, OneSample(cfg, length), folder, 'none',
                              False)
        runner.register_hook(clock)
        runner.train()
    return float(np.median(np.diff(clock.times[3:-1]))) * 1e3


def update_times(runs: int) -> dict[str, float]:
    """Median CPU milliseconds of updates of all parameters of ResNet-50."""
    model = build_backbone(dict(type='torchvision.resnet50'))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    target = target_of(model)
    groups = list(model.parameters())
    contenders: dict[str, Callable[[], Any]] = {
        'EMA, torch._foreach': lambda: ema_update(target, model, 0.99),
        'EMA, a loop': lambda: ema_loop(target, model, 0.99),
        'LARS, torch._foreach': LARS(groups, lr=1e-4).step,
        'SGD': torch.optim.SGD(groups, lr=1e-4, momentum=0.9).step,
        'SGD, foreach': torch.optim.SGD(groups, lr=1e-4, momentum=0.9, foreach=True).step,
        'SGD, fused': torch.optim.SGD(groups, lr=1e-4, momentum=0.9, fused=True).step,
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, update in contenders.items():
            start = time.process_time()
            update()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


@torch.no_grad()
def ema_loop(target: nn.Module, online: nn.Module, tau: float) -> None:
    """The update of most implementations: one kernel launch and more for each parameter."""
    for xi, theta in zip(target.parameters(), online.parameters(), strict=True):
        xi.data = tau * xi.data + (1 - tau) * theta.data


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=12)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--batch', type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[float]] = {name: [] for name in OPTIONS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.rounds):
            for i, (name, options) in enumerate(OPTIONS.items()):
                results[name].append(step_time(options, args, Path(folder) / f'{i}_{turn}'))
    first = statistics.median(results['as it is'])
    print(f'DetCon-B, ResNet-18, two views of {args.size} px, batch {args.batch}, one core: '
          f'CPU milliseconds a step, median of {args.rounds} × {args.steps}')
    for name, values in results.items():
        middle = statistics.median(values)
        print(f'{name:>22} {middle:9.1f}  {first / middle:5.2f} × as fast')
    print('\nupdating the parameters of ResNet-50: CPU milliseconds')
    for name, middle in update_times(15).items():
        print(f'{name:>22} {middle:9.1f}')


if __name__ == '__main__':
    main()
