"""Random weights that pretrained ones are compared with: on the same network, with the same input.

What the recipe makes of a downstream config depends on the pretraining: stem, norms, mean, std and
channel order. Random weights follow that of one backbone; backbones may differ among themselves.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine import Config

from densessl.benchmark.plan import Baseline, Benchmark
from densessl.finetune.weights import likeness, network_of
from densessl.transfer.target import TransferTarget

ABSENT = 'none'


def find_baseline(benchmark: Benchmark, cfg: Config, target: TransferTarget) -> Baseline:
    """Have random weights follow the first of the backbones, else the supervised weights, and find
    who differs from it."""
    names = [*benchmark.backbones, *(name for name in benchmark.weights
                                     if name not in benchmark.backbones)]
    if not names:
        return Baseline()
    settings = benchmark.keep, benchmark.freeze
    networks = {name: network_of(cfg, target, benchmark.weights[name], *settings)
                for name in names}
    first = networks[names[0]]
    differing = {name: list(_differences(first, network)) for name, network in networks.items()
                 if network != first}
    return Baseline(names[0], likeness(cfg, target, benchmark.weights[names[0]], *settings),
                    first['model']['backbone'], first['model'].get('data_preprocessor')
                    or first.get('data_preprocessor', {}), differing)


def _differences(ours: Any, theirs: Any, path: str = '') -> Iterator[str]:
    """Where two nested settings differ: ``'model.backbone.type ResNet instead of ResNetV1c'``."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*ours, *theirs]):
            yield from _differences(ours.get(key, ABSENT), theirs.get(key, ABSENT),
                                    f'{path}.{key}' if path else key)
    elif ours != theirs:
        yield f'{path} {theirs} instead of {ours}'
