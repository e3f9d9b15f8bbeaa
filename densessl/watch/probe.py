"""A dense probe of a backbone that is being trained: what a 1×1 convolution, and the labels of the
nearest cells of other images, make of its frozen features.

Both learn from the same fixed choice of cells, each with the label that most of its pixels have,
and of features standardized by channel.
The convolution is the minimum of a convex problem (logistic regression, by L-BFGS), so there is
nothing to tune; the neighbors need no training at all.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from densessl.backbones import feature_maps
from densessl.errors import RunFailed, UsageError
from densessl.features.batches import groups_of_one_size
from densessl.features.classifiers import fit_linear
from densessl.features.knn import knn_classify
from densessl.heads import cell_counts
from densessl.labels.label_ids import IGNORED
from densessl.labels.segmentation import Confusion
from densessl.pixels.normalization import normalize
from densessl.watch.labelled import LabelledImages, Pixels, ProbeSettings

CHUNK = 8           # images at a time
NEIGHBORS = 10      # cells that a cell's label is taken from
ITERATIONS = 100    # of L-BFGS


@dataclass(frozen=True)
class ProbeScores:
    """Percent, over the classes that occur: of the 1×1 convolution's label maps, and of those in
    which each cell has its neighbors' label."""

    mIoU: float
    propagation: float


@contextmanager
def left_alone(backbone: nn.Module) -> Iterator[None]:
    """Within, a network can be used for another purpose than training: the generators go on
    afterwards as if nothing had been, and nothing is compiled for other sizes of images."""
    device = next(backbone.parameters()).device
    compiled = backbone.__dict__.pop('forward', None)
    try:
        with torch.random.fork_rng([device] if device.type == 'cuda' else []):
            yield
    finally:
        if compiled is not None:
            backbone.forward = compiled


def probe_backbone(backbone: nn.Module, data: LabelledImages, settings: ProbeSettings,
                   normalization: Mapping[str, Any]) -> ProbeScores:
    """Measure the features of ``backbone`` as it is; it is left as it was.

    Args:
        normalization: ``mean`` and ``std`` on the 0–255 scale, and ``channel_order`` if not RGB.

    Raises:
        UsageError: the backbone has no such stage, or does not take images of that size.
        RunFailed: its features are not finite, or there is nothing to score.
    """
    with left_alone(backbone):
        maps = _maps(backbone, data.train, settings, normalization)
        cells, labels = fixed_cells(maps, data.train.labels, len(data.names), settings.cells)
        if not len(labels):
            raise UsageError(f'probe.data {settings.data}: no pixel of the images to learn from '
                             f'has a label')
        head = fit_linear(cells, labels, classes=len(data.names), decay=settings.decay,
                          iterations=ITERATIONS)
        maps = _maps(backbone, data.val, settings, normalization)
        linear, near = Confusion(len(data.names)), Confusion(len(data.names))
        bank = (cells - head.mean) / head.std
        for map_, label in zip(maps, data.val.labels, strict=True):
            queries, size = map_.flatten(1).T, map_.shape[1:]                       # (h·w, C)
            logits = head(queries).T.unflatten(1, size)                             # (K, h, w)
            logits = interpolate(logits[None], label.shape, mode='bilinear', align_corners=False)
            linear.add(logits[0].argmax(0).cpu(), label)
            found = knn_classify(bank, labels, (queries - head.mean) / head.std,
                                 classes=len(data.names), neighbors=NEIGHBORS)
            found = interpolate(found.view(1, 1, *size).float(), label.shape, mode='nearest')
            near.add(found[0, 0].long().cpu(), label)
    scores = ProbeScores(linear.scores()['mIoU'], near.scores()['mIoU'])
    if scores.mIoU != scores.mIoU:
        raise RunFailed(f'probe.data {settings.data}: no pixel of the images to score on has a '
                        f'label')
    return scores


def _maps(backbone: nn.Module, pixels: Pixels, settings: ProbeSettings,
          normalization: Mapping[str, Any]) -> list[Tensor]:
    """The map (C, h, w) of each image, float32."""
    device = next(backbone.parameters()).device
    meta = {'channel_order': 'RGB', **normalization}
    found: list[Tensor] = [torch.empty(0)] * len(pixels.images)
    for group in groups_of_one_size([image.shape for image in pixels.images], CHUNK):
        images = normalize(torch.stack([pixels.images[i] for i in group]).to(device), meta)
        try:
            maps = feature_maps(backbone, images)
        except (AssertionError, RuntimeError, ValueError) as error:
            height, width = images.shape[-2:]
            raise UsageError(f'the probe\'s images of {height}×{width} pixels do not go through '
                             f'the backbone ({str(error).splitlines()[0] if str(error) else error}'
                             f'); set probe.size and probe.square') from error
        if not -len(maps) <= settings.stage < len(maps):
            raise UsageError(f'probe.stage {settings.stage}: the backbone has {len(maps)} maps')
        for i, map_ in zip(group, maps[settings.stage].float(), strict=True):
            found[i] = map_
    if not torch.stack([map_.isfinite().all() for map_ in found]).all():
        raise RunFailed('the features of the backbone are not finite')
    return found


def cell_labels(label: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """(h·w,) the class that most labelled pixels of each cell have, the lowest of equals;
    :data:`IGNORED` where most have none.

    Args:
        label: (H, W) uint8 classes. size: (h, w) of the feature map.
    """
    known = torch.where(label == IGNORED, torch.full_like(label, classes), label)
    counts = cell_counts(known[None], size, classes + 1)[0]             # (h·w, classes + 1)
    most = counts[:, :classes].argmax(1)
    return torch.where(counts[:, classes] > counts[:, :classes].sum(1),
                       torch.full_like(most, IGNORED), most)


def fixed_cells(maps: Sequence[Tensor], labels: Sequence[Tensor], classes: int, most: int
                ) -> tuple[Tensor, Tensor]:
    """Feature vectors (n, C) of at most ``most`` labelled cells, evenly over all images, and their
    classes (n,): the same cells for the same labels, whatever the features."""
    found = torch.cat([cell_labels(label, tuple(map_.shape[1:]), classes)
                       for map_, label in zip(maps, labels, strict=True)])
    there = (found != IGNORED).nonzero()[:, 0]
    there = there[::max(1, -(-len(there) // most))]
    device = maps[0].device
    vectors = torch.cat([map_.flatten(1).T for map_ in maps])
    return vectors[there.to(device)], found[there].to(device)
