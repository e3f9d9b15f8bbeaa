"""Decode one image file to RGB pixels as a viewer displays them.

OpenCV decodes ordinary JPEG and PNG files, which is nearly all of them. Their headers are read
first (0.02 ms), so that a decompression bomb is refused before it is decoded and whatever OpenCV
would show differently (alpha, palettes, CMYK, animation, damage) is left to others: Pillow, and
:mod:`densessl.pixels.tiff` for what Pillow does not know. How values of more than 8 bits become
pixels is up to the :class:`~densessl.pixels.pixel_rule.PixelRule`.

The header also tells the size before the pixels are decoded, so that a caller that needs fewer of
them (:mod:`densessl.views.view`) can have a JPEG decoded at half, a quarter or an eighth of its
size, which takes less work than the whole.
"""
from __future__ import annotations

import errno
import io
import mmap
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from densessl.errors import UsageError
from densessl.files.opening import open_regular
from densessl.pixels import png, tiff
from densessl.pixels.decoders import (
    by_opencv,
    decode_pixels,
    is_ordinary,
    png_orientation,
    stored_values,
)
from densessl.pixels.file_kinds import why_no_image
from densessl.pixels.orientation import checked, orientation_of, turned
from densessl.pixels.pillow_images import (
    formats,
    open_with_pillow,
    require_size,
    too_large,
)
from densessl.pixels.pixel_rule import PLAIN, PixelRule

_START_OF_JPEG = b'\xff\xd8'
_told = mmap.mmap(-1, 1)    # whether a file that ends too early was reported; shared by forks


class UnreadableImage(Exception):
    """A file that cannot be read; the message names the file and the :attr:`reason`."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f'{self.args[0]}: {self.reason}'


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image file in memory, of which only the header was read if that suffices.

    Attributes:
        path: of the file, or what else messages call the image.
        size: (H, W) as displayed.
        reducible: whether :meth:`pixels` can give less than all pixels.
        damage: what is missing from a file that ends too early, in words; empty if it is whole.
    """

    path: str | Path
    size: tuple[int, int]
    reducible: bool
    _data: bytes
    _rule: PixelRule = PLAIN
    _decoded: np.ndarray | None = None    # of the rare kinds that had to be decoded to know them
    damage: str = ''

    def pixels(self, reduction: int = 1) -> np.ndarray:
        """Decode.

        Args:
            reduction: 1; if the image is :attr:`reducible` also 2, 4 or 8: a pixel is then the
                mean of about reduction × reduction ones, as the JPEG's transform gives it.

        Returns:
            (⌈H / reduction⌉, ⌈W / reduction⌉, 3) uint8 RGB.

        Raises:
            UnreadableImage: the file is damaged behind its header.
        """
        assert reduction == 1 or self.reducible, 'reduced pixels of an image that has none'
        if self.damage and not _told[0]:
            _told[0] = 1
            print(f'densessl: {self.path} ends too early: {self.damage}; it is read as viewers '
                  f'show it, like all others that do', file=sys.stderr)
        pixels = self._decoded
        if pixels is None and reduction > 1:
            pixels = by_opencv(self._data, reduction)
            expected = tuple(-(-side // reduction) for side in self.size)
            if pixels is None or pixels.shape[:2] != expected:
                raise UnreadableImage(self.path, f'no pixels at 1/{reduction} of its size')
        elif pixels is None:
            pixels, _ = _attempt(self.path, decode_pixels, self._data, self._rule)
        return np.ascontiguousarray(pixels)


def open_image(path: str | Path, rule: PixelRule = PLAIN) -> StoredImage:
    """Read an image file and its header; the pixels follow when they are asked for.

    Raises:
        UnreadableImage: missing, empty, no image, or with more pixels than the limit for
            decompression bombs ($DENSESSL_MAX_PIXELS, else 2 × ``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    return open_data(path, read_data(path), rule)


def open_data(name: str | Path, data: bytes, rule: PixelRule = PLAIN) -> StoredImage:
    """As :func:`open_image`, of the contents of a file that messages call ``name``."""
    return _attempt(name, _open, name, data, rule)


def read_data(path: str | Path) -> bytes:
    """The contents of an image file.

    Raises:
        UnreadableImage: missing or empty.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        dangling = error.errno == errno.ENOENT and os.path.islink(path)
        reason = 'a link to a file that does not exist' if dangling else str(error.strerror)
        raise UnreadableImage(path, reason) from error
    if not data:
        raise UnreadableImage(path, 'the file is empty')
    return data


def read_image(path: str | Path, rule: PixelRule = PLAIN) -> np.ndarray:
    """Read an image as it is displayed.

    EXIF orientation is applied, transparency lies on white, values of more than 8 bits are scaled
    by ``rule``, and of an animation the first frame is taken. In a JPEG or PNG that ends too early
    up to a quarter of the rows may be missing, gray or black.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: as :func:`open_image`, or damaged.
    """
    return open_image(path, rule).pixels()


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of what :func:`read_image` returns, by the file's header where that suffices.

    Raises:
        UnreadableImage: missing, empty or no image. Damage behind the header is not noticed.
    """
    return _size_in_header(path) or open_image(path).size


def data_size(name: str | Path, data: bytes) -> tuple[int, int]:
    """As :func:`image_size`, of the contents of a file that messages call ``name``."""
    return _size_in_header(io.BytesIO(data)) or open_data(name, data).size


def deep_values(name: str | Path, data: bytes, rule: PixelRule = PLAIN
                ) -> tuple[np.ndarray, int | None, float | None] | None:
    """What an image of more than 8 bits holds before ``rule`` scales it; None of other images.

    Returns:
        (H, W, 1 or 3) integers or floats of the bands that are shown; the number that is shown as
        white without a range, None if the values have none or the file itself states it; and the
        one that means "no data", if the file names one.

    Raises:
        UnreadableImage: as :func:`read_image`.
    """
    return _attempt(name, stored_values, data, rule)


def _size_in_header(file: str | Path | io.BytesIO) -> tuple[int, int] | None:
    """(H, W) as displayed; None for kinds that need more than Pillow's look at the header, and on
    any error: the reader knows the kinds and reports the error."""
    try:
        opened = file if isinstance(file, io.BytesIO) else open_regular(file)
        with opened, Image.open(opened, formats=formats()) as image:
            if image.format in ('PNG', 'TIFF') or min(image.size) < 1:
                return None
            return turned(image.size[::-1], orientation_of(image))
    except Exception:   # decoders raise anything; the reader, asked next, names and reports it
        return None


def _attempt(path: str | Path, function: Any, *arguments: Any) -> Any:
    """``function(*arguments)``, whatever it raises turned into :class:`UnreadableImage`."""
    try:
        return function(*arguments)
    except (UsageError, UnreadableImage):
        raise
    except UnidentifiedImageError as error:
        data = next(one for one in arguments if isinstance(one, bytes))
        raise UnreadableImage(path, why_no_image(data)) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, too_large(str(error))) from error
    except Exception as error:     # decoders raise anything on damaged data; the file is at fault
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UnreadableImage(path, reason) from error


def _open(path: str | Path, data: bytes, rule: PixelRule) -> StoredImage:
    """What the header tells of a JPEG, PNG or TIFF; for anything else, the pixels."""
    if data[:2] == _START_OF_JPEG:
        with open_with_pillow(data) as image:
            if is_ordinary(data, image):
                turn = orientation_of(image)
                size = turned(image.size[::-1], turn)
                require_size(size)
                # an upright image's pixels are grouped from its own corner, as a crop's are
                return StoredImage(path, size, turn == 1, data)
    elif data[:8] == png.SIGNATURE:
        header = png.read_png(data)
        if header and header.whole:
            require_size(header.size)
            size = turned(header.size, png_orientation(header))
            return StoredImage(path, size, False, data, rule)
    elif data[:4] in tiff.MAGIC:
        tags = tiff.read_tiff(data)
        require_size(tags.size)
        return StoredImage(path, turned(tags.size, checked(tags.turn)), False, data, rule)
    pixels, damage = decode_pixels(data, rule)
    require_size(pixels.shape[:2])
    return StoredImage(path, pixels.shape[:2], False, b'', rule, pixels, damage)
