"""The installed methods, and a batch that any of them takes."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from densessl.method import Method, View
from densessl.plugins import load_plugins, name_of

ALL = [name_of(method) for plugin in load_plugins()
       for method in plugin.provides.get('methods', [])]


def batch(views: int, size: int = 64, samples: int = 6, seed: int = 0) -> list[View]:
    """Views of the same drawn patterns: the second is the first, shifted and with other noise."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(samples, 3, 4, 4, generator=g)
    ids = torch.arange(16).view(1, 1, 4, 4).expand(samples, 1, 4, 4).float()
    image, mask = (F.interpolate(x, (size, size), mode='nearest') for x in (coarse, ids))
    return [View(image=image.roll(4 * i, 3) + 0.1 * torch.randn(image.shape, generator=g),
                 mask=mask.roll(4 * i, 3)[:, 0].long(),
                 uniforms=torch.rand(samples, 64, generator=g), target=torch.arange(samples),
                 regions=16) for i in range(views)]


def total(method: Method, views: list[View]) -> torch.Tensor:
    """The differentiated loss."""
    return method.parse_losses(method(views, mode='loss'))[0]
