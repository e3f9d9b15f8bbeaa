"""Image-level probes: k-NN and linear classification of frozen features, and full fine-tuning."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from densessl.backbones import finest_first
from densessl.errors import UsageError
from densessl.features.classifiers import DECAYS, choose_decay, fit_linear
from densessl.features.knn import NEIGHBORS, TEMPERATURE, knn_classify
from densessl.probes.class_images import (
    CentralCrops,
    ClassImages,
    RandomCrops,
    epoch_order,
    held_out,
)
from densessl.probes.differences import COUNTS
from densessl.probes.frozen import Measured

BATCH = 64          # images at a time in the extraction of features


@dataclass(frozen=True)
class Finetuning:
    """Full fine-tuning: SGD with Nesterov momentum 0.9, from ``lr`` to 0 by a cosine; random
    resized crops and flips, as in Chen et al. 2020 (SimCLR, appendix B.8)."""

    epochs: int = 30
    batch: int = 64
    lr: float = 0.01
    decay: float = 1e-4
    seed: int = 0


@torch.no_grad()
def extract_pooled(backbone: Measured, images: ClassImages, size: int, workers: int = 0) -> Tensor:
    """(N, C) the last map of each image's central crop, averaged over its cells."""
    loader = DataLoader(CentralCrops(images, size), BATCH, num_workers=workers)
    return torch.cat([backbone.pooled(batch) for batch in loader])


def knn_probe(backbone: Measured, train: ClassImages, val: ClassImages, size: int, *,
              neighbors: int = NEIGHBORS, temperature: float = TEMPERATURE, workers: int = 0
              ) -> dict[str, Any]:
    """Accuracies of :func:`densessl.features.knn.knn_classify` in percent."""
    if neighbors < 1:
        raise UsageError(f'--neighbors {neighbors}: at least 1')
    features, queries = (extract_pooled(backbone, part, size, workers) for part in (train, val))
    found = knn_classify(features, torch.from_numpy(train.labels).to(features.device), queries,
                         classes=len(train.names), neighbors=neighbors, temperature=temperature)
    return {**accuracies(found, val.labels), 'neighbors': min(neighbors, len(train))}


def linear_probe(backbone: Measured, train: ClassImages, val: ClassImages, size: int, *,
                 workers: int = 0) -> dict[str, Any]:
    """Accuracies of logistic regression in percent; its weight decay is chosen on a fifth of the
    training images, and the solution is of all of them."""
    features, queries = (extract_pooled(backbone, part, size, workers) for part in (train, val))
    labels, classes = torch.from_numpy(train.labels).to(features.device), len(train.names)
    apart = torch.from_numpy(held_out(train.keys, train.labels)).to(features.device)
    decay = choose_decay(features, labels, apart, classes=classes)
    found = fit_linear(features, labels, classes=classes, decay=decay)(queries).argmax(1)
    return {**accuracies(found, val.labels), 'decay': decay,
            'decay_at_the_end_of_its_range': decay in (DECAYS[0], DECAYS[-1])}


def finetune_probe(backbone: Measured, train: ClassImages, val: ClassImages, size: int,
                   settings: Finetuning, *, workers: int = 0) -> dict[str, Any]:
    """Accuracies in percent after training all weights with a new linear classifier."""
    device = backbone.device
    network = copy.deepcopy(backbone.module)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        channels = backbone.pooled(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[1]
        head = nn.Linear(channels, len(train.names)).to(device)
        whole = Measured(backbone.label, network, backbone.meta)
        _train(whole, head, RandomCrops(train, size, settings.seed), len(train), settings, workers)
    with torch.no_grad():
        found = head(extract_pooled(whole, val, size, workers)).argmax(1)
    return {**accuracies(found, val.labels), 'epochs': settings.epochs}


def accuracies(found: Tensor, labels: np.ndarray) -> dict[str, Any]:
    """``scores`` in percent: ``top1``, and ``per class``, the mean over classes of their
    accuracies; and which images were right."""
    right = found.cpu().numpy() == labels
    per_class = [right[labels == c].mean() for c in np.unique(labels)]
    return {'scores': {'top1': 100 * float(right.mean()),
                       'per class': 100 * float(np.mean(per_class))}, COUNTS: right}


def _train(whole: Measured, head: nn.Module, crops: RandomCrops, images: int,
           settings: Finetuning, workers: int) -> None:
    """Train backbone and head together, in place."""
    parameters = [*whole.module.parameters(), *head.parameters()]
    for parameter in parameters:
        parameter.requires_grad_()
    solver = torch.optim.SGD(parameters, settings.lr, momentum=0.9, nesterov=True,
                             weight_decay=settings.decay)
    batch = min(settings.batch, images)
    steps = settings.epochs * (images // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(solver, steps)
    whole.module.train()
    for epoch in range(settings.epochs):
        # without the last incomplete batch: BN's statistics of a single image mean nothing
        loader = DataLoader(crops, batch, sampler=epoch_order(images, settings.seed, epoch),
                            num_workers=workers, drop_last=True)
        for pictures, labels in loader:
            features = finest_first(whole.module(whole.normalize(pictures)))[-1].mean((2, 3))
            loss = cross_entropy(head(features), labels.to(features.device))
            solver.zero_grad()
            loss.backward()
            solver.step()
            schedule.step()


def most_frequent(train: Sequence[int], val: Sequence[int]) -> float:
    """The accuracy in percent of always answering the most frequent class: what features must
    beat to be worth anything."""
    return 100 * float(np.mean(np.asarray(val) == np.bincount(train).argmax()))
