"""Random weights that pretrained ones are compared with: on the same network, with the same input.

What the recipe makes of a downstream config depends on the pretraining: stem, norms, mean, std and
channel order. Random weights follow that of one backbone; backbones may differ among themselves.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from densessl.benchmark.plan import Baseline, Benchmark
from densessl.finetune.weights import likeness_of
from densessl.weights.backbone_file import RANDOM

ABSENT = 'none'


def find_baseline(benchmark: Benchmark, networks: Mapping[str, dict[str, Any]]) -> Baseline:
    """Have random weights follow the first of the backbones, else the supervised weights, and find
    who differs from it.

    Args:
        networks: of each initialization (:func:`densessl.finetune.weights.network_of`).
    """
    names = list(dict.fromkeys([*benchmark.backbones, *benchmark.weights]))
    if not names:
        return Baseline()
    first = networks[names[0]]
    differing = {name: list(_differences(first, networks[name])) for name in names
                 if networks[name] != first}
    return Baseline(names[0], likeness_of(networks[RANDOM], first),
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
