"""The pixels of one image file by the decoder that shows its kind as viewers do."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from densessl.pixels import png, tiff
from densessl.pixels.orientation import checked, orientation_of, upright
from densessl.pixels.pillow_images import by_pillow, on_white, open_with_pillow, require_size
from densessl.pixels.pixel_rule import PLAIN, PixelRule, has_own_range

LOST = 1 / 4         # of the rows, at most, in a file that ends too early
_END_OF_JPEG = b'\xff\xd9'
_NOISE = bytes(range(1, 255, 2))
_GRAY, _GRAY_OF_CMYK = 128, 64       # as libjpeg fills what is missing
_NETPBM = (b'P2', b'P3', b'P5', b'P6')                  # PGM and PPM, as text and as bytes
_DEEP_ELSEWHERE = (*_NETPBM, b'\0\0\0\x0cjP  ', b'\xff\x4f\xff\x51')      # JPEG 2000
_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)   # spares a conversion; OpenCV has it from 4.11 on
_COLOR = _RGB or cv2.IMREAD_COLOR
_REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8}        # with _COLOR: not gray


def set_log_level(level: int) -> None:
    """How much OpenCV prints by itself, 0 (nothing) to 6, by the name that its version has."""
    (getattr(cv2, 'setLogLevel', None) or cv2.utils.logging.setLogLevel)(level)


set_log_level(0)        # what it cannot read is tried by others, or reported by us


def decode_pixels(data: bytes, rule: PixelRule) -> tuple[np.ndarray, str]:
    """The pixels, and what is missing of them, in words."""
    if data[:8] == png.SIGNATURE:
        header = png.read_png(data)
        if header is None:
            raise ValueError('a PNG that is truncated or damaged before its pixels begin')
        return _decode_png(header, rule)
    if data[:4] in tiff.MAGIC:
        tags = tiff.read_tiff(data)
        return upright(_decode_tiff(tags, data, rule), checked(tags.turn)), ''
    values = None if rule.value_range is None else _unscaled(data)
    with open_with_pillow(data) as image:
        turn, damage = orientation_of(image), ''
        pixels = by_opencv(data) if is_ordinary(data, image) else None
        if values is not None:
            pixels = on_white(rule.eight_bits(values, 16), None)
        elif pixels is None:
            try:
                pixels = by_pillow(image, rule)
            except OSError as error:
                if image.format not in ('JPEG', 'MPO') or 'truncated' not in str(error):
                    raise
                pixels, damage = _jpeg_without_end(data)
        return upright(pixels, turn), damage


def _decode_png(header: png.Png, rule: PixelRule) -> tuple[np.ndarray, str]:
    damage = ''
    if not header.whole:
        require_size(header.size)
        data, missing = png.completed(header)
        damage = _tolerated(missing, header.size[0])
        header = replace(png.read_png(data), about=header.about)
    pixels = None
    if header.depth == 16 and (rule.value_range is not None or not header.plain):
        values, opaque = png.deep_values(header)
        pixels = on_white(rule.eight_bits(values, 16), opaque)
    elif header.plain:
        pixels = by_opencv(header.data)
    if pixels is None:
        with open_with_pillow(header.data) as image:
            pixels = by_pillow(image, rule)
    return upright(pixels, png_orientation(header)), damage


def png_orientation(header: png.Png) -> int:
    if header.about is None:
        return 1
    with open_with_pillow(header.about) as image:
        return orientation_of(image)


def _decode_tiff(tags: tiff.Tiff, data: bytes, rule: PixelRule) -> np.ndarray:
    if tags.picture and not (rule.bands and tags.page.samplesperpixel > 1):
        try:
            with open_with_pillow(tiff.upright_tags(tags, data)) as image:
                return by_pillow(image, rule)
        except UnidentifiedImageError:
            if not tags.colors:
                raise
    return tiff.deep_pixels(tags, data, rule)


def _jpeg_without_end(data: bytes) -> tuple[np.ndarray, str]:
    """A JPEG with an end marker put after its last byte: what is missing is gray, and begins where
    other bytes in front of the marker change the picture."""
    with open_with_pillow(data + _END_OF_JPEG) as image:
        pixels = by_pillow(image, PLAIN)
    try:
        with open_with_pillow(data.rstrip(b'\xff') + _NOISE + _END_OF_JPEG) as other:
            changed = (by_pillow(other, PLAIN) != pixels).any(axis=(1, 2))
    except OSError:     # they would belong to a header
        changed = np.ones(len(pixels), bool)
    gray = (pixels == (_GRAY_OF_CMYK if image.mode == 'CMYK' else _GRAY)).all(axis=(1, 2))
    filled = gray & np.logical_or.accumulate(changed)
    missing = int(filled[::-1].argmin()) if not filled.all() else len(filled)
    return pixels, _tolerated(missing, len(pixels))


def _tolerated(missing: int, rows: int) -> str:
    """What is missing, in words; ValueError if that is too much."""
    if missing > LOST * rows:
        raise ValueError(f'truncated: {missing} of its {rows} rows are missing')
    return f'{missing} of its {rows} rows are missing' if missing else 'its last bytes are missing'


def _unscaled(data: bytes) -> np.ndarray | None:
    """(H, W, 1 or 3) uint16 values of a PGM, PPM or JPEG 2000 of more than 8 bits, RGB, which
    Pillow scales to the whole range; None of any other file."""
    if not data.startswith(_DEEP_ELSEWHERE):
        return None
    ended = data + b'\n' if data.startswith(_NETPBM) else data      # the last number of a text
    values = cv2.imdecode(np.frombuffer(ended, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        return None
    return values[..., None] if values.ndim == 2 else values[..., 2::-1]


def is_ordinary(data: bytes, image: Image.Image) -> bool:
    """Whether OpenCV shows a JPEG as a viewer does. A truncated file is not ordinary, because
    OpenCV fills what is missing with gray and does not say so."""
    return (image.format in ('JPEG', 'MPO') and image.mode in ('RGB', 'L')
            and data.endswith(_END_OF_JPEG))


def by_opencv(data: bytes, reduction: int = 1) -> np.ndarray | None:
    flags = _COLOR | _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:              # for example above its own limit on width: Pillow's turn
        return None
    return pixels if pixels is None or _RGB else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def stored_values(data: bytes, rule: PixelRule) -> Any:
    if data[:8] == png.SIGNATURE:
        header = png.read_png(data)
        deep = header is not None and header.depth == 16 and header.whole
        return (png.deep_values(header)[0], 0xffff, None) if deep else None
    if data[:4] in tiff.MAGIC:
        tags = tiff.read_tiff(data)
        if tags.picture:
            return None
        require_size(tags.size)
        values, _, nodata = tiff.deep_values(tags, data, rule)
        white = 2 ** tags.page.bitspersample - 1 if has_own_range(values.dtype) else None
        return None if values.dtype == np.uint8 else (values, white, nodata)
    values = _unscaled(data)
    return None if values is None else (values, None, None)
