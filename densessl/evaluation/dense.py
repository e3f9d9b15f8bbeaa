"""The dense linear probe: a 1×1 convolution on frozen feature maps, upsampled to label maps.

Features are computed once and kept in half precision, standardized by channel, and the convolution
is trained on them; the problem is convex, so the schedule is long enough rather than tuned. Labels
are compared at a quarter of the input's size in training and at their own full size in scoring.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, Dataset

from densessl.evaluation.frozen import Measured
from densessl.evaluation.linear import SPREAD
from densessl.evaluation.segmentation import Confusion
from densessl.transfer.label_folder import IGNORED


@dataclass(frozen=True)
class DenseSettings:
    """How the head is trained: AdamW from ``lr`` to 0 by a cosine, batches of images."""

    epochs: int = 40
    batch: int = 16
    lr: float = 0.01
    decay: float = 1e-4
    seed: int = 0


@dataclass
class Kept:
    """What is kept of a split: the maps (C, h, w) float16 of each image, and its labels."""

    maps: list[Tensor]
    labels: list[Tensor]


def extract(backbone: Measured, data: Dataset, *, stage: int = -1, workers: int = 0,
            full_labels: bool = False) -> Kept:
    """Compute the frozen maps of every image.

    Args:
        data: gives (image, label map, small label map). stage: which map, finest first.
        full_labels: whether the full label maps are kept, or the small ones.
    """
    kept = Kept([], [])
    loader = DataLoader(data, 1, num_workers=workers, collate_fn=lambda samples: samples[0])
    for image, label, small in loader:
        kept.maps.append(backbone.maps(image[None])[stage][0].half().cpu())
        kept.labels.append(label if full_labels else small)
    return kept


def channel_statistics(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) over all cells of all maps; constant channels get 1."""
    count = sum(one[0].numel() for one in maps)
    mean = sum(one.double().sum((1, 2)) for one in maps) / count
    variance = sum((one.double() - mean[:, None, None]).square().sum((1, 2)) for one in maps)
    std = (variance / count).sqrt()
    std = torch.where(std > SPREAD * std.max().clamp(min=1e-30), std, torch.ones_like(std))
    return mean.float(), std.float()


def train_head(kept: Kept, classes: int, settings: DenseSettings, device: torch.device
               ) -> nn.Sequential:
    """Train standardization and 1×1 convolution on ``kept``; (B, C, h, w) → (B, classes, h, w)."""
    mean, std = channel_statistics(kept.maps)
    norm = nn.BatchNorm2d(len(mean), eps=0, affine=False)    # only to hold the statistics
    norm.running_mean, norm.running_var = mean, std.square()
    norm.eval()
    conv = nn.Conv2d(len(mean), classes, 1)
    nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    head = nn.Sequential(norm, conv).to(device)
    steps = settings.epochs * -(-len(kept.maps) // settings.batch)
    solver = torch.optim.AdamW(conv.parameters(), settings.lr, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(solver, steps)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.epochs):
        order = torch.randperm(len(kept.maps), generator=generator).tolist()
        for start in range(0, len(order), settings.batch):
            solver.zero_grad()
            _loss(head, kept, order[start:start + settings.batch], device).backward()
            solver.step()
            schedule.step()
    return head


@torch.no_grad()
def score_head(head: nn.Module, kept: Kept, classes: int, device: torch.device) -> Confusion:
    """Compare predictions, upsampled to the label maps' full size, with them."""
    confusion = Confusion(classes)
    for map_, label in zip(kept.maps, kept.labels, strict=True):
        logits = head(map_[None].float().to(device))
        logits = interpolate(logits, label.shape, mode='bilinear', align_corners=False)
        confusion.add(logits[0].argmax(0).cpu(), label)
    return confusion


def dense_probe(backbone: Measured, train: Dataset, val: Dataset, names: Sequence[str],
                settings: DenseSettings, *, stage: int = -1, workers: int = 0) -> dict[str, Any]:
    """Extract, train and score; scores in percent, and the IoU of each class."""
    kept = extract(backbone, train, stage=stage, workers=workers)
    head = train_head(kept, len(names), settings, backbone.device)
    kept = extract(backbone, val, stage=stage, workers=workers, full_labels=True)
    confusion = score_head(head, kept, len(names), backbone.device)
    iou = {name: None if value != value else round(100 * value, 2)
           for name, value in zip(names, confusion.iou().tolist(), strict=True)}
    return {'scores': confusion.scores(), 'iou': iou, 'channels': kept.maps[0].shape[0]}


def _loss(head: nn.Module, kept: Kept, chosen: Sequence[int], device: torch.device) -> Tensor:
    """Mean cross-entropy over the labelled pixels of the chosen images."""
    total, known = torch.zeros((), device=device), 0
    for group in _same_size(kept, chosen):
        labels = torch.stack([kept.labels[i] for i in group]).long().to(device)
        logits = head(torch.stack([kept.maps[i] for i in group]).float().to(device))
        logits = interpolate(logits, labels.shape[1:], mode='bilinear', align_corners=False)
        total = total + cross_entropy(logits, labels, ignore_index=IGNORED, reduction='sum')
        known += int((labels != IGNORED).sum())
    return total / max(known, 1)


def _same_size(kept: Kept, chosen: Sequence[int]) -> Iterator[list[int]]:
    """The chosen images in groups whose maps, and so whose inputs, have the same size."""
    groups: dict[tuple[Any, Any], list[int]] = {}
    for i in chosen:
        groups.setdefault((kept.maps[i].shape, kept.labels[i].shape), []).append(i)
    yield from groups.values()
