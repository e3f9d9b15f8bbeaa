"""Random weights that pretrained ones are compared with: on the same network, with the same input.

What the recipe makes of a downstream config depends on the pretraining: stem, norms, mean, std and
channel order. Random weights follow that of one backbone; backbones may differ among themselves.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densessl.benchmark.plan import Baseline, Benchmark
from densessl.planning.decisive_settings import changes, digest_of, leaves_of
from densessl.weights.backbone_file import RANDOM


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
    settings = {name: leaves_of(networks[name], networks[name]) for name in names}
    found = {name: [f'{key} {new} instead of {old}' for key, old, new in
                    changes(settings[names[0]], settings[name])] for name in names}
    differing = {name: lines for name, lines in found.items() if lines}
    # as densessl.finetune.weights.likeness has it
    digest = None if networks[RANDOM] == first else digest_of(first)
    return Baseline(names[0], digest,
                    first['model']['backbone'], first['model'].get('data_preprocessor')
                    or first.get('data_preprocessor', {}), differing)
