"""The installed methods, and a batch that any of them takes."""
from __future__ import annotations

import atexit
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from densessl.backbones import build_backbone
from densessl.method import Method, View
from densessl.plugins import load_plugins, name_of
from densessl.weights.backbone_file import save_backbone

ALL = [name_of(method) for plugin in load_plugins()
       for method in plugin.provides.get('methods', [])]



@cache
def teacher_file() -> str:
    """A small network's weights, for methods that learn from others."""
    torch.manual_seed(0)
    network = {'type': 'timm.test_resnet'}
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name) / 'teacher.pth'
    save_backbone(path, build_backbone(network).state_dict(), {
        'method': 'other', 'backbone': network, 'mean': [120.0] * 3, 'std': [60.0] * 3,
        'channel_order': 'RGB'})
    return str(path)


SMALL = {   # what a method needs to be told for a batch as small as these
    'distill': dict(teacher=teacher_file()),
    'distill_regions': dict(teacher=teacher_file()),
    'jigsaw': dict(permutations=8, code=32),
    'relative_location': dict(hidden=64),
    'cpc': dict(steps=(1, 2), hidden=32, blocks=2),
}


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


def batch_for(method: Method, samples: int = 6) -> list[View]:
    """Views as ``method`` takes them; of 3 × 3 patches for those whose views are of patches."""
    if method.view_class is None:
        return batch(method.views or 2, samples=samples)
    views = batch(method.views or 2, size=3 * 48, samples=samples)
    return [replace(view, mask=None, image=patches(view.image, 3)) for view in views]


def patches(image: torch.Tensor, n: int) -> torch.Tensor:
    """(B, 3, H, W) → (B, n·n, 3, H/n, W/n), row by row."""
    rows = image.unflatten(3, (n, -1)).unflatten(2, (n, -1))          # (B, 3, n, h, n, w)
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).contiguous()


def total(method: Method, views: list[View]) -> torch.Tensor:
    """The differentiated loss."""
    return method.parse_losses(method(views, mode='loss'))[0]
