"""A label map as a PNG of 8 or 16 bits."""
from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from densessl.pixels.decode import UnreadableImage
from densessl.pixels.label_image import check_size
from densessl.pixels.png import SIGNATURE

MAX_REGIONS = 1 << 16
# zlib level 6: a third smaller than level 1 and as fast to read, which happens every epoch. Rows
# unfiltered (8: PNG_FILTER_NONE), where OpenCV can (4.11 on): runs of equal ids stay runs, which
# reads in half the time and is a sixth smaller; PNG's differences between rows suit photographs.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 6,
        *([cv2.IMWRITE_PNG_FILTER, 8] if hasattr(cv2, 'IMWRITE_PNG_FILTER') else [])]


def encode(labels: np.ndarray) -> bytes:
    """(H, W) integers 0..n-1 as a PNG of 8 bits, or of 16 if there are more than 256 regions."""
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise ValueError(f'a label map must be (H, W) integers, '
                         f'not {labels.shape} {labels.dtype}')
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_REGIONS:
        raise ValueError(f'labels must be in 0..{MAX_REGIONS - 1}, not in {low}..{high}')
    _, data = cv2.imencode('.png', labels.astype(np.uint8 if high < 256 else np.uint16), _PNG)
    return data.tobytes()


def decode(name: str | Path, data: bytes) -> np.ndarray:
    """(H, W) uint8 or uint16 of the contents of a file that messages call ``name``.

    Raises:
        UnreadableImage: damaged, no label map, or of more pixels than are read
            (:data:`densessl.pixels.label_image.MAX_PIXELS`).
    """
    if data[:8] != SIGNATURE or data[12:16] != b'IHDR' or len(data) < 24:
        raise UnreadableImage(name, 'not a PNG label map')
    try:
        check_size(*struct.unpack('>II', data[16:24]))
    except ValueError as error:
        raise UnreadableImage(name, f'{error}, and make the mask again') from error
    try:
        labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(name, f'the mask cannot be read: {error}') from error
    if labels is None or labels.ndim != 2:
        raise UnreadableImage(name, 'not a PNG label map')
    return labels
