"""A backbone to be measured: exported weights, or random ones of a named architecture."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densessl.backbones import feature_maps
from densessl.errors import RunFailed, UsageError
from densessl.pixels.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from densessl.weights.backbone_file import RANDOM, load_backbone_file
from densessl.weights.stated_backbone import build_stated, rebuild


@dataclass
class Measured:
    """A backbone with what it expects of its input.

    Attributes:
        label: what results call it.
        module: maps normalized images (B, 3, H, W) to a tuple of maps, finest first.
        meta: its provenance, with ``mean``, ``std`` and ``channel_order``.
    """

    label: str
    module: nn.Module
    meta: Mapping[str, Any]

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB as pretraining fed them: float, on the backbone's device."""
        return normalize(images.to(self.device, non_blocking=True), self.meta)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The frozen maps of (B, 3, H, W) uint8 RGB images, finest first, in evaluation mode.

        Raises:
            UsageError: it does not take images of that size.
            RunFailed: features that are not finite.
        """
        try:
            maps = feature_maps(self.module, self.normalize(images))
        except (AssertionError, RuntimeError, ValueError) as error:
            height, width = images.shape[-2:]
            raise UsageError(
                f'{self.label} does not take images of {height}×{width} pixels '
                f'({str(error).splitlines()[0] if str(error) else type(error).__name__}); try '
                f'another --size, or --square for a backbone of one size') from error
        if not all(torch.isfinite(map_).all() for map_ in maps):
            raise RunFailed(f'{self.label}: its features are not finite, so no score would mean '
                            f'anything')
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C) the last map of (B, 3, H, W) uint8 RGB images, averaged over its cells."""
        return self.maps(images)[-1].float().mean((2, 3))


def load_measured(backbone: str | Path, architecture: str | Mapping[str, Any] | None,
                  device: str, seed: int) -> Measured:
    """Build a backbone and load its weights.

    Args:
        backbone: an exported file, or ``'random'``.
        architecture: of random weights: ``'TARGET.name'``, or a dict with that as its ``type`` and
            arguments. seed: of random weights.

    Raises:
        UsageError: no architecture for random weights, or no such file.
    """
    if str(backbone) != RANDOM:
        state, meta = load_backbone_file(backbone)
        module = rebuild(meta, state, backbone)
        return Measured(_label(Path(backbone)), module.to(device), meta)
    if architecture is None:
        raise UsageError('random weights need an architecture: --backbone-type TARGET.NAME, such '
                         'as the type that an exported backbone was built from')
    network = {'type': architecture} if isinstance(architecture, str) else dict(architecture)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build_stated(network, RANDOM)
    # Random weights have no statistics of their own.
    meta = {'mean': list(IMAGENET_MEAN), 'std': list(IMAGENET_STD), 'channel_order': 'RGB',
            'method': RANDOM, 'backbone': network, 'seed': seed}
    return Measured(RANDOM, module.to(device), meta)


def architecture_of(backbones: Sequence[str | Path]) -> dict[str, Any] | None:
    """The architecture of random weights that are compared with these files: that of the first
    file, with its arguments; None if there is no file."""
    files = [backbone for backbone in backbones if str(backbone) != RANDOM]
    return dict(load_backbone_file(files[0])[1]['backbone']) if files else None


def _label(path: Path) -> str:
    """``RUN/backbone.pth`` → ``RUN``: the name that distinguishes it from others."""
    return path.resolve().parent.name if path.stem == 'backbone' else path.stem
