"""Random weights that pretrained ones are compared with: on the same network, with the same input.

What the recipe makes of a downstream config depends on the pretraining: stem, norms, mean, std and
channel order. Random weights follow that of one backbone; backbones may differ among themselves.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from densessl.finetune.fitting import likeness, network_of

if TYPE_CHECKING:
    from mmengine import Config

    from densessl.benchmark.plan import Benchmark
    from densessl.transfer.target import TransferTarget

ABSENT = 'none'


@dataclass(frozen=True)
class Baseline:
    """What random weights are like.

    Attributes:
        like: the initialization whose network and input they have; None if nothing is compared
            with them, and they have the config's own.
        digest: of that network and input; None if they are those of random weights alone
            (:func:`densessl.finetune.fitting.likeness`).
        network, input: the backbone and the data preprocessor, as the recipe left them.
        differing: each initialization with another network or input → what is other in it.
    """

    like: str | None = None
    digest: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    input: dict[str, Any] = field(default_factory=dict)
    differing: dict[str, list[str]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For ``results.json``: plain values."""
        return json.loads(json.dumps(asdict(self), default=str))


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
