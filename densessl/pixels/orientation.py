"""Which way is up: one answer for sizes, masks and pixels, however a file states it."""
from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image

_TAG = 0x0112        # of EXIF and of TIFF
WHOLE = (3, 4)       # types of a tag's value: SHORT and LONG


def orientation_of(image: Image.Image) -> int:
    """What an image's EXIF data say, 1 … 8; 1 if they are damaged, as viewers then show the pixels
    as they are stored."""
    try:
        turn = checked(image.getexif().get(_TAG, 1))
        # of several numbers Pillow gives the first
        return turn if turn == 1 or _is_one_number(image.info.get('exif') or b'') else 1
    except Exception:   # decoders raise anything on damaged metadata
        return 1


def _is_one_number(exif: bytes) -> bool:
    """Whether EXIF data have the tag as one whole number, or not at all (XMP may have it)."""
    data = exif.removeprefix(b'Exif\0\0')
    order = '<' if data[:2] == b'II' else '>'
    start = struct.unpack_from(f'{order}I', data, 4)[0] if data else 0
    count = struct.unpack_from(f'{order}H', data, start)[0] if data else 0
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, numbers = struct.unpack_from(f'{order}HHI', data, entry)
        if tag == _TAG:
            return kind in WHOLE and numbers == 1
    return True


def checked(value: Any) -> int:
    """A value of the tag; 1 for any that is not one of the whole numbers 1 … 8 (EXIF 2.32, section
    4.6.4.A): text, fractions, several numbers."""
    return value if type(value) is int and 1 <= value <= 8 else 1


def turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(H, W) as stored → as displayed."""
    return size[::-1] if orientation >= 5 else size


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, 3) stored pixels as the tag says."""
    if orientation in (5, 6, 7, 8):          # rows are columns
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):          # the first column is on the right
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):          # the first row is at the bottom
        pixels = pixels[::-1]
    return pixels
