"""Where a view's crop lies: torchvision's sampler, and the two of TensorFlow's releases.

Each draws (top, left, height, width) in pixels from a generator, the image's height and width, the
range of the crop's share of its area and the range of the crop's width / height.
"""
from __future__ import annotations

import math

import numpy as np

Box = tuple[int, int, int, int]
Range = tuple[float, float]
ATTEMPTS, LEAST_COVERED = 100, 0.1     # of ``distorted_box``, as the release calls TensorFlow


def draw_crop(rng: np.random.Generator, height: int, width: int, area: Range, ratio: Range) -> Box:
    """Draw a crop of random area and aspect ratio, as Inception and torchvision's
    ``RandomResizedCrop`` do: ten tries, then the largest central crop of an allowed ratio."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(1, round(height * aspect)))
    h = min(height, max(1, round(width / aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def clipped_crop(rng: np.random.Generator, height: int, width: int, area: Range, ratio: Range
                 ) -> Box:
    """Draw area and aspect ratio (uniform in its logarithm) once and clip the sides to the image.

    On long images crops are larger than with :func:`draw_crop`, and more elongated than ``ratio``
    says. Source: deepmind-research ``byol/utils/dataset.py``, ``_decode_and_random_crop``, and
    detcon ``utils/tf_image_ops.py``, ``get_random_crop_window``, which are alike."""
    target = height * width * rng.uniform(*area)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w = min(width, max(1, round(math.sqrt(target * aspect))))     # 1: theirs fails on tiny images
    h = min(height, max(1, round(math.sqrt(target / aspect))))
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return top, left, h, w


def distorted_box(rng: np.random.Generator, height: int, width: int, area: Range, ratio: Range
                  ) -> Box:
    """Draw as ``tf.image.sample_distorted_bounding_box`` does with the whole image as the object,
    a tenth of which must be covered: 100 attempts, then the whole image.

    The aspect ratio is uniform, then the height is, between those that the range of areas and the
    image allow. Source: simclr ``tf2/data_util.py``, ``crop_and_resize``, and TensorFlow
    ``core/kernels/image/sample_distorted_bounding_box_op.cc``."""
    for _ in range(ATTEMPTS):
        size = _distorted_size(rng, height, width, area, rng.uniform(*ratio))
        if size is None or size[0] * size[1] < LEAST_COVERED * height * width:
            continue
        h, w = size
        # the last place is left out, as in the kernel: its Uniform(n) is below n
        top = int(rng.integers(height - h)) if h < height else 0
        left = int(rng.integers(width - w)) if w < width else 0
        return top, left, h, w
    return 0, 0, height, width


def _distorted_size(rng: np.random.Generator, height: int, width: int, area: Range, aspect: float
                    ) -> tuple[int, int] | None:
    """(height, width) of a crop of this aspect ratio, or None: the kernel's GenerateRandomCrop."""
    least, most = (share * height * width for share in area)
    low, high = round(math.sqrt(least / aspect)), round(math.sqrt(most / aspect))
    if round(high * aspect) > width:
        high = int((width + 0.5 - 1e-7) / aspect)
        high -= round(high * aspect) > width
    high = min(high, height)
    low = min(low, high)
    h = low + int(rng.integers(high - low + 1))
    if h * round(h * aspect) < least:
        h += 1
    if h * round(h * aspect) > most:
        h -= 1
    w = round(h * aspect)
    if not (least <= h * w <= most and 0 < w <= width and 0 < h <= height):
        return None
    return h, w


CROPS = {'retried': draw_crop, 'clipped': clipped_crop, 'distorted_box': distorted_box}
