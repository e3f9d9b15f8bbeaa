"""Photometry: color jitter, grayscale, blur and solarization, batched on the training device.

A loader worker draws a sample's parameters (:func:`parameters`); the data preprocessor
(:class:`ViewPreprocessor`) applies them to whole batches, outside autocast and autograd. Each
operation is torchvision's, with a parameter of its own for every sample. On a GPU PyTorch does it
(:func:`augment`, which runs on any device), on a CPU the same formulas compiled, ten times as fast
(:mod:`densessl.data.photometric_kernel`).
"""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from densessl.config import check_keys
from densessl.errors import UsageError
from densessl.method import View
from densessl.registry import METHODS

PARAMETERS = ('brightness', 'contrast', 'saturation', 'hue', 'order', 'gray', 'sigma', 'solarize')
BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAY, SIGMA, SOLARIZE = range(len(PARAMETERS))
ORDERS = list(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE)))
NO_JITTER, NO_SOLARIZE = -1.0, 2.0   # a value of `order` / `solarize` that leaves pixels alone
GRAY_AFTER, GRAY_BEFORE = 1.0, 2.0
LUMA = (0.2989, 0.587, 0.114)        # ITU-R 601, as torchvision rounds it


def parameters(rng: np.random.Generator, *, jitter: dict[str, float] | None = None,
               gray: float = 0.0, gray_first: bool = False, blur: dict[str, Any] | None = None,
               solarize: dict[str, float] | None = None) -> np.ndarray:
    """Draw one view's photometric parameters; see ``AugmentedView`` for the arguments.

    Returns:
        (P,) float32 in the order of :data:`PARAMETERS`.
    """
    row = np.array([1, 1, 1, 0, NO_JITTER, 0, 0, NO_SOLARIZE], dtype=np.float32)
    if jitter and rng.random() < jitter['p']:
        for column, name in ((BRIGHTNESS, 'brightness'), (CONTRAST, 'contrast'),
                             (SATURATION, 'saturation')):
            strength = jitter.get(name, 0.0)
            row[column] = rng.uniform(max(0.0, 1 - strength), 1 + strength)
        row[HUE] = rng.uniform(-jitter.get('hue', 0.0), jitter.get('hue', 0.0))
        row[ORDER] = rng.integers(len(ORDERS))
    if rng.random() < gray:
        row[GRAY] = GRAY_BEFORE if gray_first else GRAY_AFTER
    if blur and rng.random() < blur['p']:
        row[SIGMA] = rng.uniform(*blur['sigma'])
    if solarize and rng.random() < solarize['p']:
        row[SOLARIZE] = solarize.get('threshold', 0.5)
    return row


def check_parameters(*, jitter: dict[str, float] | None, gray: float, gray_first: bool,
                     blur: dict[str, Any] | None, solarize: dict[str, float] | None) -> None:
    """Raise UsageError for arguments that :func:`parameters` cannot draw from."""
    for name, given, known in (
            ('jitter', jitter, ('p', 'brightness', 'contrast', 'saturation', 'hue')),
            ('blur', blur, ('p', 'sigma')), ('solarize', solarize, ('p', 'threshold'))):
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise UsageError(f'{name} must be a dict of {", ".join(known)}, not {given!r}')
        check_keys(name, given, known)
        needed = known[:2] if name == 'blur' else known[:1]
        if missing := [key for key in needed if key not in given]:
            raise UsageError(f'{name} needs {" and ".join(missing)}; it takes {", ".join(known)}')
        for key, value in given.items():
            low, high = value if key == 'sigma' and is_range(value) else (value, value)
            if not is_range((low, high)) or low < 0 or (key in ('p', 'threshold') and high > 1) \
                    or (key == 'hue' and high > 0.5):
                raise UsageError(f'{name}.{key} {value!r} is out of range')
    check_probability('gray', gray)


def check_probability(name: str, value: Any) -> None:
    """Raise UsageError unless ``value`` is a number in [0, 1]."""
    if not is_range((value, value)) or not 0 <= value <= 1:
        raise UsageError(f'{name} must be a probability in 0 … 1, not {value!r}')


def is_range(value: Any) -> bool:
    """Whether ``value`` is two numbers, the first not above the second."""
    return (isinstance(value, (list, tuple)) and len(value) == 2
            and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
            and value[0] <= value[1])


@METHODS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """Moves a batch of uint8 views to the device, applies photometry, normalizes.

    Args:
        mean, std: per channel, on the 0–255 scale, in RGB order.
        blur_kernel: side of the Gaussian kernel, in pixels (23 at 224 px: a tenth of the side).
    """

    def __init__(self, mean: Sequence[float] = (123.675, 116.28, 103.53),
                 std: Sequence[float] = (58.395, 57.12, 57.375), blur_kernel: int = 23,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking=non_blocking)
        self.blur_kernel = blur_kernel
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1) / 255, persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, list[View]]:
        """Args: ``data`` of ``densessl.data.collate.collate``. Returns: keyword arguments of
        ``Method.forward``."""
        device = self.mean.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return {'views': [self._view(data, i, device) for i in range(len(data['image']))]}

    def _view(self, data: dict[str, Any], i: int, device: torch.device) -> View:
        def moved(name: str) -> Tensor | None:
            return data[name][i].to(device, non_blocking=True) if name in data else None
        image = self.photometry(moved('image'), data['photometric'][i])
        mask = moved('mask')
        return View(image=image, mask=None if mask is None else mask.int(),
                    uniforms=moved('uniforms'), target=moved('target'),
                    regions=data.get('regions'))

    def photometry(self, image: Tensor, rows: Tensor) -> Tensor:
        """Augment and normalize a view.

        Args:
            image: (B, H, W, 3) uint8 on the preprocessor's device, or (B, T, H, W, 3) of views
                that are T images, which share their parameters; rows: (B, P) on the CPU.

        Returns:
            (B, 3, H, W) float32, channels-last, or (B, T, 3, H, W).
        """
        several = image.shape[:-3]
        image = image.flatten(0, -4)
        rows = rows.repeat_interleave(len(image) // len(rows), 0)
        if image.device.type == 'cpu':
            # imported here: it takes a third of a second, and who has a GPU needs it not
            from densessl.data.photometric_kernel import augment_and_normalize
            image = augment_and_normalize(image, rows, self.mean, self.std, self.blur_kernel)
        else:
            image = image.permute(0, 3, 1, 2).float().div_(255)   # channels-last, as memory is
            image = augment(image, rows, self.blur_kernel).sub_(self.mean).div_(self.std)
        return image.unflatten(0, several)


def augment(image: Tensor, rows: Tensor, blur_kernel: int = 23) -> Tensor:
    """Apply photometry to a batch.

    Args:
        image: (B, 3, H, W) float in [0, 1], on any device; overwritten.
        rows: (B, P) parameters, on the CPU: which samples an operation touches is known there,
            so that the device is never waited for.
        blur_kernel: side of the Gaussian kernel in pixels.

    Returns:
        (B, 3, H, W) float in [0, 1].
    """
    _on(image, rows, rows[:, GRAY] == GRAY_BEFORE, lambda x, _: grayscale(x))
    orders = torch.tensor(ORDERS)[rows[:, ORDER].long().clamp(min=0)]   # (B, 4) which op is when
    for turn in range(4):
        for column, operation in JITTER.items():
            chosen = (orders[:, turn] == column) & (rows[:, ORDER] != NO_JITTER)
            _on(image, rows[:, column], chosen, operation)
    _on(image, rows, rows[:, GRAY] == GRAY_AFTER, lambda x, _: grayscale(x))
    _on(image, rows[:, SIGMA], rows[:, SIGMA] > 0, lambda x, s: blur(x, s, blur_kernel))
    _on(image, rows[:, SOLARIZE], rows[:, SOLARIZE] <= 1, solarize)
    return image


def _on(image: Tensor, values: Tensor, chosen: Tensor, operation: Any) -> None:
    """Apply ``operation(images, values)`` in place to the chosen samples."""
    index = chosen.nonzero()[:, 0]
    if len(index):
        there = index.to(image.device, non_blocking=True)
        image[there] = operation(image[there], values[index].to(image.device, non_blocking=True))


def _blend(image: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (factor * image + (1 - factor) * other).clamp_(0, 1)


def luma(image: Tensor) -> Tensor:
    """(B, 3, H, W) → (B, 1, H, W)."""
    red, green, blue = image.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def grayscale(image: Tensor) -> Tensor:
    return luma(image).expand_as(image)


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    return (image * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, luma(image).mean((2, 3), keepdim=True), factor)


def saturation(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, luma(image), factor)


def hue(image: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (B,) turns in HSV space, value and saturation kept."""
    high, low = image.amax(1), image.amin(1)
    chroma = high - low
    red, green, blue = image.unbind(1)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(high == red, ((green - blue) / safe) % 6,
                        torch.where(high == green, (blue - red) / safe + 2,
                                    (red - green) / safe + 4))
    sixth = sixth + 6 * shift.view(-1, 1, 1)
    # f(n) of the HSV → RGB conversion without branches: v − c·max(0, min(k, 4 − k, 1))
    channels = []
    for n in (5, 3, 1):
        k = (n + sixth) % 6
        channels.append(high - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 1)


def blur(image: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur with a ``sigma`` (B,) of each sample's own, separably, reflecting at edges.

    A kernel that would reach past the image is cut to its size (small test images)."""
    batch, channels, height, width = image.shape
    radius = min(kernel // 2, height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma.view(-1, 1)) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)   # (B·3, k)
    groups = batch * channels
    flat = F.pad(image, [radius] * 4, mode='reflect').reshape(1, groups, height + 2 * radius, -1)
    flat = F.conv2d(flat, weights.view(groups, 1, 1, -1), groups=groups)
    flat = F.conv2d(flat, weights.view(groups, 1, -1, 1), groups=groups)
    return flat.view(batch, channels, height, width)


def solarize(image: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(image < threshold.view(-1, 1, 1, 1), image, 1 - image)


JITTER = {BRIGHTNESS: brightness, CONTRAST: contrast, SATURATION: saturation, HUE: hue}
