"""Photometry: color jitter, grayscale, blur and solarization, batched on the training device.

A loader worker draws a sample's parameters (:mod:`densessl.views.photometry_draw`); the data
preprocessor (:class:`ViewPreprocessor`) applies them to whole batches, outside autocast and
autograd. Each operation is that of the sample's style, torchvision's or TensorFlow's, with a
parameter of its own for every sample. On a GPU PyTorch does it (:func:`augment`, which runs on any
device), on a CPU the same formulas compiled, ten times as fast
(:mod:`densessl.views.photometry_cpu`).

TensorFlow's formulas: ``tf.image.adjust_*``, ``rgb_to_grayscale``; deepmind-research
``byol/utils/augmentations.py``; detcon ``utils/augmentations.py``, which calls dm_pix; simclr
``data_util.py``. They are alike but for the brightness, and clip to [0, 1] after every operation.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from densessl.bounds import channels, check_section
from densessl.method import View
from densessl.pixels.normalization import IMAGENET_MEAN, IMAGENET_STD
from densessl.views.photometry_draw import (
    BLENDED,
    BRIGHTNESS,
    CONTRAST,
    GRAY,
    GRAY_AFTER,
    GRAY_BEFORE,
    HSV_ADDED,
    HSV_SCALED,
    HUE,
    KERNEL,
    LUMA,
    NO_JITTER,
    ORDER,
    ORDERS,
    SATURATION,
    SIGMA,
    SOLARIZE,
    STYLE,
)


class ViewPreprocessor(BaseDataPreprocessor):
    """Moves a batch of uint8 views to the device, applies photometry, normalizes.

    Args:
        mean, std: per channel, on the 0–255 scale, in the order of ``channel_order``.
        channel_order: ``'RGB'`` or ``'BGR'``, of what the networks see.

    Raises:
        UsageError: ``mean`` or ``std`` are not three numbers of that scale.
    """

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD, non_blocking: bool = True,
                 channel_order: str = 'RGB') -> None:
        super().__init__(non_blocking=non_blocking)
        check_section(
            'normalization.', dict(non_blocking=non_blocking, mean=mean, std=std,
                                   channel_order=channel_order),
            dict(non_blocking=bool, mean=channels(0, 255), std=channels(0.01, 255),
                 channel_order=Literal['RGB', 'BGR']))
        self.swaps = channel_order == 'BGR'     # photometry is that of RGB, and comes before
        for name, values in (('mean', mean), ('std', std)):
            rgb = torch.tensor(values[::-1] if self.swaps else values).view(1, 3, 1, 1) / 255
            self.register_buffer(name, rgb, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, list[View]]:
        """Args: ``data`` of ``densessl.views.collate.collate``. Returns: keyword arguments of
        ``Method.forward``."""
        device = self.mean.device
        data = moved(data, device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return {'views': [self._view(data, i) for i in range(len(data['image']))]}

    def _view(self, data: dict[str, Any], i: int) -> View:
        mask, uniforms, target = (data[name][i] if name in data else None
                                  for name in ('mask', 'uniforms', 'target'))
        return View(image=self.photometry(data['image'][i], data['photometric'][i]),
                    mask=None if mask is None else mask.int(), uniforms=uniforms, target=target,
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
        repeats = len(image) // len(rows)
        if image.device.type == 'cpu':
            # imported here: it takes a third of a second, which a GPU can do without
            from densessl.views.photometry_cpu import augment_and_normalize
            image = augment_and_normalize(image, rows.repeat_interleave(repeats, 0),
                                          self.mean, self.std)
        else:
            # planes for the operations, which read one channel at a time, then channels-last again
            image = image.permute(0, 3, 1, 2).to(torch.float32,
                                                 memory_format=torch.contiguous_format).div_(255)
            image = augment(image, rows.numpy().repeat(repeats, 0)).sub_(self.mean).div_(self.std)
            image = image.contiguous(memory_format=torch.channels_last)
        if self.swaps:
            image = image.flip(1)
        return image.unflatten(0, several)


def moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The tensors of a collated batch on ``device``, but for the photometric parameters, of which
    the host decides what the device does. Nobody waits where they leave from pinned memory."""
    return {key: [tensor.to(device, non_blocking=True) for tensor in views]
            if isinstance(views, list) and key != 'photometric' else views
            for key, views in batch.items()}


def augment(image: Tensor, rows: Tensor | np.ndarray) -> Tensor:
    """Apply photometry to a batch.

    Args:
        image: (B, 3, H, W) float in [0, 1], on any device; overwritten.
        rows: (B, P) parameters, on the CPU: which samples an operation touches is known there,
            so that the device is never waited for.

    Returns:
        (B, 3, H, W) float in [0, 1].
    """
    rows = np.asarray(rows)
    turns = [(operation, index, rows[index, column]) for operation, chosen, column in _turns(rows)
             if len(index := np.flatnonzero(chosen))]
    if not turns:
        return image
    sizes = [len(index) for _, index, _ in turns]
    where, values = (
        _sent(np.concatenate(parts), image.device).split(sizes)
        for parts in ([index for _, index, _ in turns], [some for _, _, some in turns]))
    for (operation, _, _), index, some in zip(turns, where, values, strict=True):
        if len(index) == len(image):
            image.copy_(operation(image, some))
        else:
            image.index_copy_(0, index, operation(image.index_select(0, index), some))
    return image


Turn = tuple[Callable[[Tensor, Tensor], Tensor], np.ndarray, int]


def _turns(rows: np.ndarray) -> Iterator[Turn]:
    """The operations on a batch one after the other: each with the samples (B,) bool that it
    touches, and the column of ``rows`` that has its values."""
    gray, style, sigma = rows[:, GRAY], rows[:, STYLE], rows[:, SIGMA]
    yield grayscale, gray == GRAY_BEFORE, GRAY
    orders = np.array(ORDERS)[rows[:, ORDER].astype(int).clip(min=0)]   # (B, 4): which op is when
    orders[rows[:, ORDER] == NO_JITTER] = -1
    for turn in range(4):
        for kind in np.unique(style):
            for column, operation in JITTERS[kind].items():
                yield operation, (orders[:, turn] == column) & (style == kind), column
    yield grayscale, gray == GRAY_AFTER, GRAY
    for kernel, kind in np.unique(rows[sigma > 0][:, [KERNEL, STYLE]], axis=0):
        yield (partial(blur, kernel=int(kernel), mirrored=bool(kind == BLENDED)),
               (sigma > 0) & (rows[:, KERNEL] == kernel) & (style == kind), SIGMA)
    yield solarize, rows[:, SOLARIZE] <= 1, SOLARIZE


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device, for which nobody waits: it leaves from memory that is pinned."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else tensor


def _blend(image: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (factor * image + (1 - factor) * other).clamp_(0, 1)


def luma(image: Tensor) -> Tensor:
    """(B, 3, H, W) → (B, 1, H, W)."""
    red, green, blue = image.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def grayscale(image: Tensor, *_: Tensor) -> Tensor:
    return luma(image).expand_as(image)


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    return (image * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def added_brightness(image: Tensor, shift: Tensor) -> Tensor:
    return (image + shift.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, luma(image).mean((2, 3), keepdim=True), factor)


def contrast_of_channels(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, image.mean((2, 3), keepdim=True), factor)


def saturation(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, luma(image), factor)


def saturation_in_hsv(image: Tensor, factor: Tensor) -> Tensor:
    """Multiply S = chroma / value by ``factor`` (B,) and clip it to 1, hue and value kept: what a
    channel lacks to the value grows by as much, which needs no way into HSV and back."""
    high = image.amax(1, keepdim=True)
    chroma = high - image.amin(1, keepdim=True)
    most = high / torch.where(chroma > 0, chroma, torch.ones_like(chroma))    # S becomes 1
    return (high - (high - image) * torch.minimum(factor.view(-1, 1, 1, 1), most)).clamp_(0, 1)


def _hue_of(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W) → hue in sixths of a turn, chroma and value, (B, H, W) each."""
    high, low = image.amax(1), image.amin(1)
    chroma = high - low
    red, green, blue = image.unbind(1)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(high == red, ((green - blue) / safe) % 6,
                        torch.where(high == green, (blue - red) / safe + 2,
                                    (red - green) / safe + 4))
    return sixth, chroma, high


def hue(image: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (B,) turns in HSV space, value and saturation kept."""
    sixth, chroma, high = _hue_of(image)
    sixth = sixth + 6 * shift.view(-1, 1, 1)
    # f(n) of the HSV → RGB conversion without branches: v − c·max(0, min(k, 4 − k, 1))
    turned = ((n + sixth) % 6 for n in (5, 3, 1))
    return torch.stack([high - chroma * torch.minimum(k, 4 - k).clamp_(0, 1) for k in turned], 1)


def hue_in_hsv(image: Tensor, shift: Tensor) -> Tensor:
    """The same to twice the precision: the angle is brought into one turn before it is used."""
    sixth, chroma, high = _hue_of(image)
    sixth = (sixth + 6 * shift.view(-1, 1, 1)) % 6
    shares = [(sixth - 3).abs() - 1, 2 - (sixth - 2).abs(), 2 - (sixth - 4).abs()]
    return torch.stack([high - chroma * (1 - share.clamp_(0, 1)) for share in shares], 1)


def blur(image: Tensor, sigma: Tensor, kernel: int, *, mirrored: bool = True) -> Tensor:
    """Gaussian blur with a ``sigma`` (B,) of each sample's own, separably.

    Args:
        kernel: side of the Gaussian in pixels.
        mirrored: what is beyond the border: the image mirrored about the border pixels' centers,
            as torchvision has it (a kernel that would reach past the mirror image is cut), else
            zeros, as TensorFlow's ``'SAME'`` convolution has it.
    """
    batch, channels, height, width = image.shape
    radius = min(kernel // 2, height - 1, width - 1) if mirrored else kernel // 2
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma.view(-1, 1)) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)   # (B·3, k)
    groups = batch * channels
    flat = F.pad(image, [radius] * 4, mode='reflect' if mirrored else 'constant')
    flat = flat.reshape(1, groups, height + 2 * radius, -1)
    flat = F.conv2d(flat, weights.view(groups, 1, 1, -1), groups=groups)
    flat = F.conv2d(flat, weights.view(groups, 1, -1, 1), groups=groups)
    return flat.view(batch, channels, height, width)


def solarize(image: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(image < threshold.view(-1, 1, 1, 1), image, 1 - image)


JITTER = {BRIGHTNESS: brightness, CONTRAST: contrast, SATURATION: saturation, HUE: hue}
IN_HSV = {CONTRAST: contrast_of_channels, SATURATION: saturation_in_hsv, HUE: hue_in_hsv}
JITTERS = {BLENDED: JITTER, HSV_ADDED: {BRIGHTNESS: added_brightness, **IN_HSV},
           HSV_SCALED: {BRIGHTNESS: brightness, **IN_HSV}}
