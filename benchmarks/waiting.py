"""Does the loader keep up? The share of a step spent waiting for data, by the device's rate.

    python benchmarks/waiting.py [--images DIR] [--workers 1] [--steps 120]

Training runs as ``densessl train`` builds them, on JPEGs with stored masks and DetCon's two views,
whose model does nothing but take its time: it sleeps, as a host does while a GPU works. First with
no time at all, which tells what the workers can deliver; then at parts of that rate. The share is
the run's own *waiting for data*, over all but its first quarter, in which the workers start. It has
the time in it that the training process takes to receive a batch, which on a GPU a thread of its
own spends beside the training (``pin_memory``). Leave the training process a core of its own.
"""
from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from input_data import prepare
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from densessl.config import load_config
from densessl.images.image_list import ImageList
from densessl.machine.facts import machine_facts
from densessl.masks.store import MaskStore
from densessl.method import Method, View
from densessl.planning.plan import make_plan
from densessl.registry import METHODS
from densessl.training.train import build_runner
from densessl.views.dataset import ViewDataset
from densessl.views.view import AugmentedView

BATCH = 32
LOADS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.25)      # the device's rate, by what the workers can deliver


@METHODS.register_module(name='paced')
class Paced(Method):
    """One weight, and a step of ``seconds``."""

    def __init__(self, seconds: float, backbone: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.backbone, self.seconds = nn.Linear(1, 1), seconds

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        return {'loss': self.backbone.weight.square().sum()}


class Untouched(BaseDataPreprocessor):
    """Photometry is the device's work, so it is in the device's time."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, list[View]]:
        return {'views': []}


def train(dataset: ViewDataset, workers: int, seconds: float, steps: int) -> tuple[float, float]:
    """The share of the time spent waiting, and images/s."""
    interval = steps // 4
    cfg = load_config('detcon_r50', {
        'train_dataloader.batch_size': BATCH, 'train_dataloader.num_workers': workers,
        'log_interval': interval, 'schedule.warmup_epochs': 0})
    cfg.model = dict(type='paced', seconds=seconds, backbone=dict(type='one weight'))
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', momentum=0.9))
    epochs = -(-steps * BATCH // len(dataset))
    plan = make_plan(cfg, epochs=epochs, images=len(dataset), processes=1)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), \
            redirect_stderr(StringIO()):
        runner = build_runner(cfg, 'detcon_r50', plan, dataset, Path(folder), 'none', False)
        runner.model.data_preprocessor = Untouched()
        runner.train()
        scalars = next(Path(folder).glob('*/vis_data/scalars.json'))
        lines = [json.loads(line) for line in scalars.read_text().splitlines()][1:]
    waited, took = (sum(line[key] for line in lines) for key in ('data_time', 'time'))
    return waited / took, BATCH * len(lines) / took


def dataset_of(images: ImageList, store: MaskStore) -> ViewDataset:
    """What the published recipe reads."""
    views = [AugmentedView(**view) for view in load_config('detcon_r50').views]
    return ViewDataset(images, store.of(images), views)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=Path, help='any folder of images')
    parser.add_argument('--workers', type=int, nargs='+', default=[1])
    parser.add_argument('--steps', type=int, default=120)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, store, what = prepare(Path('work_dirs/bench_input'), args.images, 128)
    dataset = dataset_of(images, store)
    print(f'{what}; {machine_facts()["processor"]}\n\nwaiting for data, share of a step, where the '
          f'device asks for … of what the workers deliver')
    print(f'{"workers":>8} {"images/s":>9} ' + ' '.join(f'{load:>6.0%}' for load in LOADS))
    for workers in args.workers:
        _, rate = train(dataset, workers, 0.0, args.steps)
        shares = [train(dataset, workers, BATCH / (rate * load), args.steps)[0] for load in LOADS]
        print(f'{workers:>8} {rate:>9.0f} ' + ' '.join(f'{share:>6.1%}' for share in shares),
              flush=True)


if __name__ == '__main__':
    main()
