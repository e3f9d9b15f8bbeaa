"""Methods, batches and runs to be measured: those that ``densessl train`` would build."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.hooks import CheckpointHook
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from densessl.config import load_config
from densessl.images.image_list import ImageList
from densessl.method import Method
from densessl.planning.plan import make_plan
from densessl.training.runner import PretrainRunner
from densessl.training.train import build_runner
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.view import AugmentedView, make_views
from on_gpu.setting import Setting

CONFIGS = {'DetCon-B': 'detcon_r50', 'BYOL': 'byol_r50', 'MoCo v2': 'moco_v2_r50',
           'SimCLR': 'simclr_r50'}
BFLOAT16 = {'optim_wrapper.type': 'BFloat16OptimWrapper'}
DISTINCT = 64       # samples of a batch that differ; larger batches repeat them
SIDE = 256          # of the images that views are cut from

Batch = dict[str, Any]


def options_of(setting: Setting, method: str) -> dict[str, Any]:
    """What every measured run overrides; in a small one, everything that takes time."""
    options: dict[str, Any] = {
        'train_dataloader.num_workers': 0, 'visualizer': None, 'schedule.warmup_epochs': 0,
        'schedule.base_lr': 0.01, 'sync_bn': False}
    if setting.small:
        options |= {'model.backbone.type': 'torchvision.resnet18', 'views.0.size': 64,
                    'views.1.size': 64}
        options |= {'DetCon-B': {'model.projection': [32, 16], 'model.num_regions': 4},
                    'BYOL': {'model.projection': [32, 16]}, 'MoCo v2': {'model.queue': 32},
                    'SimCLR': {'model.projection': 16}}[method]
    return options


def config_of(setting: Setting, method: str, options: dict[str, Any] | None = None) -> Any:
    """The published config of a method, as it is measured."""
    load = partial(load_config, CONFIGS[method])
    return load({**options_of(setting, method), **(options or {})})


def make_batch(cfg: Any, size: int, *, seed: int = 0, pinned: bool = False) -> Batch:
    """``size`` samples as a loader worker collates them: patterns with noise, 16 regions each."""
    views = [AugmentedView(**view) for view in cfg.views]
    rng = np.random.default_rng(seed)
    mask = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4),
                   np.ones((SIDE // 4, SIDE // 4), np.uint8))
    samples = []
    for _ in range(min(size, DISTINCT)):
        pattern = np.kron(rng.integers(0, 224, (8, 8, 3), np.uint8),
                          np.ones((SIDE // 8, SIDE // 8, 1), np.uint8))
        image = pattern + rng.integers(0, 32, pattern.shape, np.uint8)
        samples.append(make_views(views, rng, image, mask, cfg.uniforms))
    batch = collate([samples[i % len(samples)] for i in range(size)])
    if not pinned:
        return batch
    return {key: [one.pin_memory() for one in value] if isinstance(value, list) else value
            for key, value in batch.items()}


class Repeated(Dataset):
    """Batches that are there already, over and over."""

    metainfo: ClassVar[dict[str, Any]] = {}     # mmengine asks every data set for it

    def __init__(self, batches: Sequence[Batch], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> Batch:
        return self.batches[i % len(self.batches)]


def same(batch: Batch) -> Batch:
    """What a loader of whole batches collates."""
    return batch


def make_runner(cfg: Any, config: str, batches: Sequence[Batch], steps: int, folder: Path
                ) -> PretrainRunner:
    """A run of ``steps`` steps on batches that are there already; it saves no checkpoint."""
    size = len(batches[0]['image'][0])
    cfg.train_dataloader.batch_size = size
    cfg.checkpoint.every_epochs = 2
    plan = make_plan(cfg, epochs=1, images=size * steps, processes=1)
    names = ImageList.of(Path('none'), Path('none'), [b'image'] * (size * steps))
    dataset = ViewDataset(names, None, [AugmentedView(**view) for view in cfg.views])
    runner = quietly(lambda: build_runner(cfg, config, plan, dataset, folder, 'none', False))
    runner._train_dataloader = DataLoader(Repeated(batches, steps), batch_size=None,
                                          collate_fn=same)
    runner._hooks = [hook for hook in runner._hooks if not isinstance(hook, CheckpointHook)]
    return runner


def quietly(function: Callable[[], Any]) -> Any:
    """Call ``function`` without what it prints."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return function()


class BareLoop:
    """A training step as one would write it without an engine, on the same model and optimizer.

    Args:
        bfloat16: whether the networks run under bfloat16 autocast.
    """

    def __init__(self, model: Method, optimizer: torch.optim.Optimizer, *, bfloat16: bool
                 ) -> None:
        self.model, self.optimizer = model, optimizer
        model.backbone._forward_hooks.clear()       # the run's look at collapse
        device = next(model.parameters()).device.type
        self.precision = (lambda: torch.autocast(device, torch.bfloat16)) if bfloat16 \
            else nullcontext

    def step(self, batch: Batch) -> Tensor:
        """One optimizer update; returns the loss, on the device."""
        views = self.model.data_preprocessor(batch, True)['views']
        with self.precision():
            loss = self.model.loss(views)['loss']
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.model.after_step(0, 1000)
        return loss.detach()
