"""Lightly's methods in a plain PyTorch loop for so much CPU time, with its own transforms, heads
and losses: one row of ``time_to_quality.py``, in a process of its own.

    python benchmarks/time_to_quality_peers.py simclr --config CONFIG --images LIST --seconds 1200 \
        --seed 0 --out FOLDER [--masks STORE]

What is taken from our config is what makes the runs comparable: backbone, side of the views,
batch, optimizer, peak learning rate, warm-up, weight decay and the width of the heads. The cosine
of the learning rate runs over the CPU time, so every run is annealed when its time is up; the
start of the process counts. A run that was stopped goes on from ``state.pth``.
"""
from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightly.loss import DetConSLoss, NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    DenseCLProjectionHead,
    SimCLRProjectionHead,
)
from lightly.models.utils import (
    deactivate_requires_grad,
    get_weight_decay_parameters,
    pool_masked,
    select_most_similar,
    update_momentum,
)
from lightly.transforms import DenseCLTransform, DetConSTransform, SimCLRTransform
from lightly.transforms.byol_transform import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
)
from PIL import Image
from torch import Tensor, nn
from torchvision.tv_tensors import Mask

from densessl.__main__ import end_with_parent
from densessl.backbones import build_backbone, feature_stage
from densessl.images.find import find_images
from densessl.masks.store import MaskStore
from densessl.planning.configured import configure

SAVE_EVERY = 120.0      # seconds of CPU time
REGIONS, IDS = 16, 256  # of an image that are drawn; that a mask may have
QUEUE, MOMENTUM = 4096, 0.99
Batch = list[Any]


class Base(nn.Module):
    """A backbone and what lightly's examples build on it."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg.model.backbone.to_dict())
        self.channels = feature_stage(self.backbone, -1).channels
        self.temperature = cfg.model.get('temperature', 0.2)

    def pooled(self, image: Tensor) -> Tensor:
        return self.backbone(image)[-1].mean((2, 3))

    def after_step(self, share: float) -> None:
        """Move what follows slowly; ``share`` of the run is done."""


class SimCLR(Base):
    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.head = SimCLRProjectionHead(self.channels, self.channels, cfg.model.projection)
        self.criterion = NTXentLoss(temperature=self.temperature)

    @staticmethod
    def transform(size: int) -> Callable[..., list[Any]]:
        return SimCLRTransform(input_size=size)

    def loss(self, views: Batch) -> Tensor:
        return self.criterion(*(self.head(self.pooled(view)) for view in views))


class BYOL(Base):
    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        hidden, out = cfg.model.projection
        self.head = BYOLProjectionHead(self.channels, hidden, out)
        self.predictor = BYOLPredictionHead(out, hidden, out)
        self.slow = copy.deepcopy(nn.ModuleList([self.backbone, self.head]))
        deactivate_requires_grad(self.slow)
        self.criterion, self.momentum = NegativeCosineSimilarity(), cfg.model.tau_base

    @staticmethod
    def transform(size: int) -> Callable[..., list[Any]]:
        return BYOLTransform(BYOLView1Transform(input_size=size),
                             BYOLView2Transform(input_size=size))

    def loss(self, views: Batch) -> Tensor:
        online = [self.predictor(self.head(self.pooled(view))) for view in views]
        with torch.no_grad():
            backbone, head = self.slow
            target = [head(backbone(view)[-1].mean((2, 3))) for view in views]
        return (self.criterion(online[0], target[1]) + self.criterion(online[1], target[0])) / 2

    def after_step(self, share: float) -> None:
        m = 1 - (1 - self.momentum) * (math.cos(math.pi * share) + 1) / 2
        for fast, slow in zip((self.backbone, self.head), self.slow, strict=True):
            update_momentum(fast, slow, m)


class DenseCL(Base):
    """As in lightly's example of DenseCL."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        heads = [DenseCLProjectionHead(self.channels, self.channels, 128) for _ in range(2)]
        self.fast = nn.ModuleList([self.backbone, *heads])
        self.slow = copy.deepcopy(self.fast)
        deactivate_requires_grad(self.slow)
        self.criteria = nn.ModuleList(
            NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, 128)) for _ in range(2))

    @staticmethod
    def transform(size: int) -> Callable[..., list[Any]]:
        return DenseCLTransform(input_size=size)

    def encode(self, nets: nn.ModuleList, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone, whole, local = nets
        features = backbone(image)[-1]
        cells = features.flatten(2).permute(0, 2, 1)            # (B, H·W, C)
        return cells, whole(features.mean((2, 3))), local(cells)

    def loss(self, views: Batch) -> Tensor:
        cells, query, query_local = self.encode(self.fast, views[0])
        with torch.no_grad():
            key_cells, key, key_local = self.encode(self.slow, views[1])
            key_local = select_most_similar(cells, key_cells, key_local)
        return (self.criteria[0](query, key) + self.criteria[1](
            query_local.flatten(end_dim=1), key_local.flatten(end_dim=1))) / 2

    def after_step(self, share: float) -> None:
        update_momentum(self.fast, self.slow, MOMENTUM)


class DetConS(Base):
    """The masks are those of our store; regions are drawn from the cells that they own."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.head = SimCLRProjectionHead(self.channels, self.channels, cfg.model.projection)
        self.criterion = DetConSLoss(temperature=self.temperature, gather_distributed=False)

    @staticmethod
    def transform(size: int) -> Callable[..., list[Any]]:
        return DetConSTransform(input_size=size)

    def loss(self, views: Batch) -> Tensor:
        projections, drawn = [], []
        for image, mask in views:
            features = self.backbone(image)[-1]
            cells = nn.functional.interpolate(mask.float(), features.shape[-2:],
                                              mode='nearest-exact')[:, 0].long()
            ids = torch.stack([one.unique()[torch.randint(len(one.unique()), (REGIONS,))]
                               for one in cells])               # (B, M)
            pooled = pool_masked(features, cells, IDS)          # (B, C, N)
            pooled = pooled.gather(2, ids[:, None].expand(-1, pooled.shape[1], -1))
            projections.append(self.head(pooled.transpose(1, 2).flatten(0, 1)).unflatten(
                0, ids.shape))
            drawn.append(ids)
        return self.criterion(*projections, *drawn)


METHODS = {'simclr': SimCLR, 'byol': BYOL, 'densecl': DenseCL, 'detcon_s': DetConS}


def batches(images: Any, masks: Any, transform: Callable[..., list[Any]], size: int,
            seed: int, start: int) -> Iterator[Batch]:
    """Batches of two views, from step ``start`` on; the images as lightly's data set opens them."""
    step = start
    while True:
        generator = np.random.default_rng((seed, step))
        torch.manual_seed(seed * 1_000_003 + step)
        samples = []
        for i in generator.choice(len(images), size, replace=False):
            image = Image.open(images.path(int(i))).convert('RGB')
            if masks is None:
                samples.append(transform(image))
                continue
            mask = masks.read(int(i)).clip(max=IDS - 1).astype(np.int64)
            samples.append(transform(image, Mask(torch.from_numpy(mask)[None])))
        yield [collated([sample[which] for sample in samples]) for which in range(2)]
        step += 1


def collated(views: list[Any]) -> Any:
    """One batch of images, or of images and masks."""
    if isinstance(views[0], Tensor):
        return torch.stack(views)
    return tuple(torch.stack([torch.as_tensor(view[which]) for view in views])
                 for which in range(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('method', choices=METHODS)
    parser.add_argument('--config', required=True)
    parser.add_argument('--images', required=True)
    parser.add_argument('--masks')
    parser.add_argument('--seconds', type=float, required=True)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    end_with_parent()
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 1)))
    train(args)


def train(args: argparse.Namespace) -> None:
    """Train until the time is up; write ``backbone_state.pth`` and ``peer.json``."""
    cfg = configure(args.config).cfg
    images = find_images(args.images)
    masks = MaskStore(args.masks).of(images) if args.masks else None
    torch.manual_seed(args.seed)
    model = METHODS[args.method](cfg)
    size, batch = cfg.views[0].size, cfg.global_batch
    peak = cfg.schedule.base_lr * batch / cfg.schedule.reference_batch
    warmup = max(cfg.schedule.warmup_epochs / cfg.epochs, 1e-6)
    decayed, others = get_weight_decay_parameters([model])
    given = cfg.optim_wrapper.optimizer
    optimizer = torch.optim.SGD(
        [{'params': [one for one in decayed if one.requires_grad]},
         {'params': [one for one in others if one.requires_grad], 'weight_decay': 0.0}],
        peak, momentum=given.momentum, weight_decay=given.weight_decay)
    args.out.mkdir(parents=True, exist_ok=True)
    state, step, before = args.out / 'state.pth', 0, 0.0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept['model'])
        optimizer.load_state_dict(kept['optimizer'])
        step, before = kept['step'], kept['seconds']
    saved, losses = before, []
    for views in batches(images, masks, model.transform(size), batch, args.seed, step):
        share = (before + time.process_time()) / args.seconds
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group['lr'] = peak * (share / warmup if share < warmup else 0.5 * (
                1 + math.cos(math.pi * (share - warmup) / (1 - warmup))))
        loss = model.loss(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step(share)
        step += 1
        losses.append(float(loss.detach()))
        spent = before + time.process_time()
        if step % 10 == 0:
            print(f'step {step}, {spent:.0f} s of CPU time, loss {np.mean(losses[-10:]):.4f}',
                  flush=True)
        if spent - saved > SAVE_EVERY:
            saved = spent
            torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(),
                        'step': step, 'seconds': spent}, state.with_suffix('.part'))
            state.with_suffix('.part').replace(state)
    torch.save(model.backbone.state_dict(), args.out / 'backbone_state.pth')
    (args.out / 'peer.json').write_text(json.dumps({
        'method': args.method, 'steps': step, 'batch': batch,
        'cpu_seconds': before + time.process_time(), 'loss': float(np.mean(losses[-20:]))}))
    state.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
