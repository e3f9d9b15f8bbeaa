"""What the input benchmark compares with: the same views by other libraries.

Each maker returns a function of an image's path and its mask's path that gives what training
takes: two normalized float views and, with a mask, its two label maps. A library that is not
there raises ImportError, which the table tells.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Pipeline = Callable[[Path, 'Path | None'], Any]

# DetCon-S and SimCLR alike: strengths of the jitter, then blur by view
JITTER = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
BLUR = {'detcon': (1.0, 0.0), 'simclr': (0.5, 0.5)}
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def lightly(method: str) -> Pipeline:
    """Lightly's own transforms with their defaults, from Pillow images as its data set gives."""
    from lightly.transforms import SimCLRTransform
    from lightly.transforms.detcon_transform import DetConSTransform
    from torchvision.tv_tensors import Mask
    transform = SimCLRTransform() if method == 'simclr' else DetConSTransform()

    def run(path: Path, mask: Path | None) -> Any:
        image = Image.open(path).convert('RGB')
        if mask is None:
            return transform(image)
        return transform(image, Mask(torch.from_numpy(np.array(Image.open(mask)))[None]))
    return run


def torchvision_v2(method: str) -> Pipeline:
    """torchvision's joint transforms on uint8 tensors, decoded by torchvision."""
    import torchvision.transforms.v2 as T
    from torchvision.io import ImageReadMode, decode_image, read_file
    from torchvision.tv_tensors import Image as Picture
    from torchvision.tv_tensors import Mask
    views = [T.Compose([
        T.RandomResizedCrop(224, (0.08, 1.0), interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(**JITTER)], 0.8),
        T.RandomGrayscale(0.2), T.RandomApply([T.GaussianBlur(23, (0.1, 2.0))], blur),
        T.ToDtype({Picture: torch.float32, Mask: torch.uint8}, scale=True),
        T.Normalize([m / 255 for m in MEAN], [s / 255 for s in STD])]) for blur in BLUR[method]]

    def run(path: Path, mask: Path | None) -> Any:
        image = Picture(decode_image(read_file(str(path)), ImageReadMode.RGB))
        if mask is None:
            return [view(image) for view in views]
        ids = Mask(decode_image(read_file(str(mask)), ImageReadMode.UNCHANGED))
        return [view(image, ids) for view in views]
    return run


PEERS = {'lightly': lightly, 'torchvision v2': torchvision_v2}


# -- photometry alone ------------------------------------------------------------------------------

def torchvision_operations() -> dict[str, Callable[[torch.Tensor, float], torch.Tensor]]:
    """By the name of the parameter: an operation on one (3, H, W) uint8 view."""
    import torchvision.transforms.v2.functional as TF
    return {
        'brightness': TF.adjust_brightness, 'contrast': TF.adjust_contrast,
        'saturation': TF.adjust_saturation, 'hue': TF.adjust_hue,
        'gray': lambda x, _: TF.rgb_to_grayscale(x, 3),
        'sigma': lambda x, s: TF.gaussian_blur(x, [23, 23], [s, s]),
        'solarize': lambda x, t: TF.solarize(x, t * 255),
        'all': _whole_chain(TF),
    }


def _whole_chain(TF: Any) -> Callable[[torch.Tensor, float], torch.Tensor]:
    def run(x: torch.Tensor, _: float) -> torch.Tensor:
        x = TF.adjust_hue(TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(
            x, 1.2), 1.2), 1.2), 0.1)
        x = TF.to_dtype(TF.gaussian_blur(x, [23, 23], [1.0, 1.0]), torch.float32, scale=True)
        return TF.normalize(x, [m / 255 for m in MEAN], [s / 255 for s in STD])
    return run


def kornia_operations() -> dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """The same on (B, 3, H, W) floats with a parameter for each view."""
    import kornia.enhance as E
    from kornia.color import rgb_to_grayscale
    from kornia.filters import gaussian_blur2d
    turn = 2 * torch.pi

    def blur(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return gaussian_blur2d(x, (23, 23), torch.stack([s, s], 1))

    def everything(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        factor = torch.full((len(x),), 1.2)
        x = E.adjust_saturation(E.adjust_contrast_with_mean_subtraction(
            E.adjust_brightness_accumulative(x, factor), factor), factor)
        x = blur(E.adjust_hue(x, factor * turn / 12), torch.ones(len(x)))
        return E.normalize(x, torch.tensor(MEAN) / 255, torch.tensor(STD) / 255)
    return {
        'brightness': E.adjust_brightness_accumulative,
        'contrast': E.adjust_contrast_with_mean_subtraction,
        'saturation': E.adjust_saturation,
        'hue': lambda x, h: E.adjust_hue(x, h * turn),
        'gray': lambda x, _: rgb_to_grayscale(x).expand_as(x),
        'sigma': blur,
        'solarize': lambda x, t: E.solarize(x, t),
        'all': everything,
    }
