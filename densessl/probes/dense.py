"""The dense linear probe: a 1×1 convolution on frozen feature maps, upsampled to label maps.

Features are computed once, kept in memory and standardized by channel. Upsampling is linear, so
finding the convolution of the lowest cross-entropy is a convex problem: it is solved by L-BFGS,
with no learning rate, batch size or schedule to tune. Labels are compared at a quarter of the
input's size in solving and at their own full size in scoring.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, Dataset

from densessl.features.batches import groups_of_one_size
from densessl.features.classifiers import SPREAD
from densessl.labels.label_ids import IGNORED
from densessl.labels.segmentation import Confusion
from densessl.probes.differences import COUNTS
from densessl.probes.frozen import Measured

ITERATIONS = 100    # of L-BFGS
DECAY = 1e-3        # λ of mean cross-entropy + λ/2 · ‖W‖², of standardized features
CHUNK = 32          # images at a time


@dataclass
class Kept:
    """What is kept of a split: the maps (C, h, w) of each image, and its labels."""

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
    loader = DataLoader(data, batch_size=None, num_workers=workers)    # images differ in size
    for image, label, small in loader:
        kept.maps.append(backbone.maps(image[None])[stage][0].float().cpu())
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


def solve_head(kept: Kept, classes: int, device: torch.device, *, decay: float = DECAY
               ) -> nn.Sequential:
    """Standardization and the 1×1 convolution that fits ``kept`` best; (B, C, h, w) →
    (B, classes, h, w)."""
    mean, std = channel_statistics(kept.maps)
    # Only to hold the statistics. Some releases of torch refuse an eps of 0; this changes nothing.
    norm = nn.BatchNorm2d(len(mean), eps=torch.finfo(torch.float32).tiny, affine=False)
    norm.running_mean, norm.running_var = mean, std.square()
    conv = nn.Conv2d(len(mean), classes, 1)
    nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    head = nn.Sequential(norm.eval(), conv).to(device)
    solver = torch.optim.LBFGS(conv.parameters(), max_iter=ITERATIONS, history_size=20,
                               tolerance_grad=1e-5, tolerance_change=1e-9,
                               line_search_fn='strong_wolfe')

    def step() -> float:
        solver.zero_grad()
        return objective(head, kept, decay, backward=True)

    solver.step(step)
    return head


def objective(head: nn.Sequential, kept: Kept, decay: float, *, backward: bool = False) -> float:
    """Mean cross-entropy over all labelled pixels, plus the decay of the convolution's weights;
    ``backward`` adds its gradient to the convolution's."""
    conv, total = head[1], 0.0
    known = max(1, sum(int((label != IGNORED).sum()) for label in kept.labels))
    sizes = [(map_.shape, label.shape)
             for map_, label in zip(kept.maps, kept.labels, strict=True)]

    def parts() -> Iterator[Tensor]:
        yield decay / 2 * conv.weight.square().sum()
        for group in groups_of_one_size(sizes, CHUNK):
            labels = torch.stack([kept.labels[i] for i in group]).long().to(conv.weight.device)
            maps = torch.stack([kept.maps[i] for i in group]).float().to(conv.weight.device)
            logits = interpolate(head(maps), labels.shape[1:], mode='bilinear',
                                 align_corners=False)
            yield cross_entropy(logits, labels, ignore_index=IGNORED, reduction='sum') / known

    for part in parts():    # one after the other: the memory of one chunk is enough
        total += float(part.detach())
        if backward:
            part.backward()
    return total


@torch.no_grad()
def score_head(head: nn.Module, kept: Kept, classes: int, device: torch.device) -> Confusion:
    """Compare predictions, upsampled to the label maps' full size, with them."""
    confusion = Confusion(classes)
    for map_, label in zip(kept.maps, kept.labels, strict=True):
        logits = head(map_[None].float().to(device))
        logits = interpolate(logits, label.shape, mode='bilinear', align_corners=False)
        confusion.add(logits[0].argmax(0).cpu(), label)
    return confusion


def dense_probe(backbone: Measured, train: Dataset, val: Dataset, names: Sequence[str], *,
                stage: int = -1, workers: int = 0, decay: float = DECAY) -> dict[str, Any]:
    """Extract, solve and score; scores in percent, and the IoU of each class."""
    kept = extract(backbone, train, stage=stage, workers=workers)
    head = solve_head(kept, len(names), backbone.device, decay=decay)
    kept = extract(backbone, val, stage=stage, workers=workers, full_labels=True)
    confusion = score_head(head, kept, len(names), backbone.device)
    iou = {name: None if value != value else round(100 * value, 2)
           for name, value in zip(names, confusion.iou().tolist(), strict=True)}
    return {'scores': confusion.scores(), 'iou': iou, 'channels': kept.maps[0].shape[0],
            'decay': decay, COUNTS: torch.stack(confusion.by_image).numpy()}
