"""Decode one image file to RGB pixels as a viewer displays them.

OpenCV decodes ordinary JPEG and PNG files, which is nearly all of them. Pillow reads every file's
header first (0.02 ms), so that a decompression bomb is refused before it is decoded and whatever
OpenCV would show differently (alpha, palettes, CMYK, animation, damage) is left to Pillow.

The header also tells the size before the pixels are decoded, so that who needs less of them than
there are (:mod:`densessl.data.views`) can have a JPEG decoded at half, a quarter or an eighth of
its size, which its transform gives for less work than the whole.
"""
from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

# Only these are tried: Pillow also has formats that run other programs or fetch other files.
_FORMATS = ('JPEG', 'MPO', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'AVIF', 'JPEG2000', 'PPM')
_ORIENTATION = 0x0112                       # the EXIF tag
_START_OF_JPEG = b'\xff\xd8'
_END_OF_JPEG = b'\xff\xd9'
_END_OF_PNG = b'\0\0\0\0IEND\xaeB`\x82'
_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)   # spares a conversion; OpenCV has it from 4.11 on
_COLOR = _RGB or cv2.IMREAD_COLOR
_REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8}        # with _COLOR: not gray
_PNG_METADATA = (b'eXIf', b'Raw profile type', b'tiff:Orientation')   # may say which way is up


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
    """

    path: str | Path
    size: tuple[int, int]
    reducible: bool
    _data: bytes
    _decoded: np.ndarray | None = None    # of the rare kinds that had to be decoded to know them

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
        pixels = self._decoded
        if pixels is None and reduction > 1:
            pixels = _opencv(self._data, reduction)
            expected = tuple(-(-side // reduction) for side in self.size)
            if pixels is None or pixels.shape[:2] != expected:
                raise UnreadableImage(self.path, f'no pixels at 1/{reduction} of its size')
        elif pixels is None:
            pixels = _attempt(self.path, _decode, self._data)
        return np.ascontiguousarray(pixels)


def open_image(path: str | Path) -> StoredImage:
    """Read an image file and its header; the pixels follow when they are asked for.

    Raises:
        UnreadableImage: missing, empty, truncated, no image, or more pixels than Pillow's limit
            for decompression bombs (2 × ``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    return open_data(path, read_data(path))


def open_data(name: str | Path, data: bytes) -> StoredImage:
    """As :func:`open_image`, of the contents of a file that messages call ``name``."""
    return _attempt(name, _open, name, data)


def read_data(path: str | Path) -> bytes:
    """The contents of an image file.

    Raises:
        UnreadableImage: missing or empty.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        dangling = error.errno == errno.ENOENT and os.path.islink(path)
        reason = 'a link to a file that does not exist' if dangling else str(error.strerror)
        raise UnreadableImage(path, reason) from error
    if not data:
        raise UnreadableImage(path, 'the file is empty')
    return data


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as it is displayed.

    EXIF orientation is applied, transparency lies on white, 16-bit values are scaled to 8 bits
    from their full range, and of an animation the first frame is taken.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: as :func:`open_image`, or damaged.
    """
    return open_image(path).pixels()


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of what :func:`read_image` returns, by the file's header where that suffices.

    Raises:
        UnreadableImage: missing, empty or no image. Damage behind the header is not noticed.
    """
    return _size_in_header(path) or open_image(path).size


def data_size(name: str | Path, data: bytes) -> tuple[int, int]:
    """As :func:`image_size`, of the contents of a file that messages call ``name``."""
    return _size_in_header(io.BytesIO(data)) or open_data(name, data).size


def _size_in_header(file: str | Path | io.BytesIO) -> tuple[int, int] | None:
    """(H, W) as displayed; None of rare kinds, and on all errors: the reader knows the kinds and
    says what the error is."""
    try:
        with Image.open(file, formats=_formats()) as image:
            width, height = image.size
            return (width, height) if _orientation(image) >= 5 else (height, width)
    except Exception:   # decoders raise anything; the reader, asked next, names and reports it
        return None


def _attempt(path: str | Path, function: Any, *arguments: Any) -> Any:
    """``function(*arguments)``, whatever it raises turned into :class:`UnreadableImage`."""
    try:
        return function(*arguments)
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, 'not an image, or of an unknown kind') from error
    except Exception as error:     # decoders raise anything on damaged data; the file is at fault
        raise UnreadableImage(path, str(error) or type(error).__name__) from error


def _open(path: str | Path, data: bytes) -> StoredImage:
    """What the header tells of an ordinary JPEG; of anything else, the pixels."""
    if data[:2] == _START_OF_JPEG:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            if _is_ordinary(data, image):
                width, height = image.size
                turn = _orientation(image)
                size = (width, height) if turn >= 5 else (height, width)
                # an upright image's pixels are grouped from its own corner, as a crop's are
                return StoredImage(path, size, turn not in range(2, 9), data)
    pixels = _decode(data)
    return StoredImage(path, pixels.shape[:2], False, b'', pixels)


def _decode(data: bytes) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        if data[:4] not in (b'II*\0', b'MM\0*'):
            raise
        return _deep_tiff(data)
    with image:
        pixels = _opencv(data) if _is_ordinary(data, image) else None
        if pixels is not None and image.format == 'PNG':
            return pixels
        if pixels is None:
            pixels = _pillow(image)
        return _upright(pixels, _orientation(image))


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _is_ordinary(data: bytes, image: Image.Image) -> bool:
    """Whether OpenCV shows the file as a viewer does. A truncated file is not ordinary, because
    OpenCV fills what is missing with grey and does not say so."""
    if image.format in ('JPEG', 'MPO'):
        return image.mode in ('RGB', 'L') and data.endswith(_END_OF_JPEG)
    return (image.format == 'PNG' and image.mode in ('RGB', 'L', 'I;16')
            and 'transparency' not in image.info and not getattr(image, 'is_animated', False)
            and data.endswith(_END_OF_PNG) and not any(tag in data for tag in _PNG_METADATA))


def _opencv(data: bytes, reduction: int = 1) -> np.ndarray | None:
    flags = _COLOR | _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:              # for example above its own limit on width: Pillow's turn
        return None
    return pixels if pixels is None or _RGB else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _deep_tiff(data: bytes) -> np.ndarray:
    """A TIFF with 16-bit colors, which Pillow does not know."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError('a TIFF of an unknown kind (more than 4 bands?)')
    if pixels.dtype != np.uint16:
        raise ValueError(f'its values are {pixels.dtype}, whose range is not known')
    return (cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) >> 8).astype(np.uint8)


def _pillow(image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in image.info:
        image = image.convert('RGBA')
        ground = Image.new('RGBA', image.size, 'white')
        return np.asarray(Image.alpha_composite(ground, image).convert('RGB'))
    if image.mode == 'F':
        raise ValueError('its values are floating point, whose range is not known')
    if image.mode.startswith('I'):          # 16 bits, in which Pillow may keep them as 32
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xffff:
            raise ValueError('its values have more than 16 bits')
        return np.repeat((values.astype(np.uint16) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image.convert('RGB'))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:   # damaged metadata: viewers then show the pixels as they are stored
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, 3) stored pixels as the EXIF tag says (EXIF 2.32, section 4.6.4.A)."""
    if orientation in (5, 6, 7, 8):          # rows are columns
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):          # the first column is on the right
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):          # the first row is at the bottom
        pixels = pixels[::-1]
    return pixels
