"""TIFF files as cameras, microscopes and satellites write them: any number of bands, of any type.

tifffile reads the tags, and the values where it can decompress them; Pillow's libtiff decompresses
the others, strip by strip. What is left to Pillow as a whole are the pictures of up to 8 bits.
"""
from __future__ import annotations

import io
import logging
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from densessl.pixels.orientation import WHOLE
from densessl.pixels.pillow_images import (
    on_white,
    open_with_pillow,
    quiet_libtiff,
    require_values,
)
from densessl.pixels.pixel_rule import PixelRule

if TYPE_CHECKING:
    from tifffile import TiffPage

MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')      # the last two: BigTIFF
_ORIENTATION = 274                                     # the tag
_WHITE_IS_ZERO, _GRAY, _RGB, _CMYK = 0, 1, 2, 5        # photometric interpretations
_COLORS = {_WHITE_IS_ZERO: 1, _GRAY: 1, _RGB: 3, _CMYK: 4}
_ELSEWHERE = (3, 6, 8, 9, 10)                          # palette, YCbCr, CIE, ICC and ITU L*a*b*
_LOGLUV = (34676, 34677)                               # compressions of SGI's
_ASSOCIATED, _ALPHA = 1, (1, 2)                        # extra samples; 2: unassociated


@dataclass(frozen=True)
class Tiff:
    """What the tags of a TIFF's first page say.

    Attributes:
        size: (H, W) as stored. turn: the content of the orientation tag, None without one.
        picture: whether it is one of up to 8 bits that Pillow shows as viewers do.
        page: tifffile's, of a file that is open as long as this is.
        turn_at: where in the file the orientation tag is, and whether the file is a BigTIFF.
    """

    size: tuple[int, int]
    turn: Any
    picture: bool
    page: TiffPage
    turn_at: tuple[int, bool] | None

    @property
    def colors(self) -> int:
        """How many of the bands are colors as they are: 4 of CMYK, 3 of RGB, 1 of gray, else 0."""
        return _COLORS.get(int(self.page.photometric), 0)


def read_tiff(data: bytes) -> Tiff:
    """The first page of a TIFF, by its tags alone.

    Args:
        data: the contents of a file.

    Raises:
        ValueError: it is damaged.
    """
    tifffile = _library()
    try:
        file = tifffile.TiffFile(io.BytesIO(data))
        page = file.pages[0]
        height, width = page.imagelength, page.imagewidth
        tag = page.tags.get(_ORIENTATION)
    except (tifffile.TiffFileError, IndexError, KeyError, TypeError, struct.error) as error:
        raise ValueError(f'damaged, or not a TIFF: {error}') from error
    where = (tag.offset, bool(file.is_bigtiff)) if tag is not None else None
    short = tag is not None and int(tag.dtype) in WHOLE and tag.count == 1
    turn = int(tag.value) if short else None     # not its name
    return Tiff((height, width), turn, _is_picture(page), page, where)


@cache
def _library() -> Any:
    import tifffile  # here, since most folders of images hold no TIFF
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)   # odd tags do not change a pixel
    return tifffile


def _is_picture(page: TiffPage) -> bool:
    samples, kind = page.samplesperpixel, page.photometric
    if isinstance(page.bitspersample, tuple) or isinstance(page.sampleformat, tuple):
        return True         # as packed colors of 5, 6 and 5 bits: known to Pillow, or to nobody
    colors = _COLORS.get(int(kind), samples)
    known = samples == colors or (samples == colors + 1 and _has_alpha(page))
    return (page.bitspersample <= 8 and int(page.sampleformat) in (1, 4) and known
            and not (page.planarconfig == 2 and samples > 1 and kind == _GRAY))


def _has_alpha(page: TiffPage) -> bool:
    extra = [int(one) for one in page.extrasamples or ()]
    return bool(extra) and extra[-1] in _ALPHA


def upright_tags(tiff: Tiff, data: bytes) -> bytes:
    """The file with its orientation tag, if it has one, set to 1: some releases of Pillow turn
    TIFFs by themselves, by rules of their own."""
    if tiff.turn_at is None:
        return data
    at, big = tiff.turn_at
    order = '<' if data[:2] == b'II' else '>'
    short = struct.pack(f'{order}HQHHI', 3, 1, 1, 0, 0) if big else struct.pack(
        f'{order}HIHH', 3, 1, 1, 0)
    return data[:at + 2] + short + data[at + 2 + len(short):]


def deep_values(tiff: Tiff, data: bytes, rule: PixelRule
                ) -> tuple[np.ndarray, np.ndarray | None, float | None]:
    """The values of the first page that are shown, (H, W, 1 or 3, or 4 of CMYK); their opacity,
    (H, W) uint8, if the file declares one; and the value that means "no data", if it names one.

    Raises:
        ValueError: they cannot be decompressed, or are no colors that are known here, or the rule
            names a band that is not there.
    """
    page = tiff.page
    if page.dtype is None:
        raise ValueError(f'a TIFF of {page.bitspersample}-bit values of an unknown format')
    if rule.bands is None and (page.photometric in _ELSEWHERE
                               or page.samplesperpixel < tiff.colors == _COLORS[_CMYK]):
        raise ValueError(f'a TIFF of {page.photometric.name} colors, {page.samplesperpixel} bands '
                         f'of {page.bitspersample} bits, which are not known here: save it as RGB, '
                         f'or name the bands to show (--bands)')
    require_values(tiff.size, page.samplesperpixel)
    if page.is_tiled:       # one tile may be larger than the image
        require_values((page.tilelength, page.tilewidth), page.samplesperpixel)
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts,
                                                  strict=True)]
    if not ends or max(ends) > len(data):
        raise ValueError('truncated: its pixels are not all there')
    values, opaque = _decompressed_by_any(page, data), None
    planes, _, height, width, samples = values.shape
    values = values[:, 0].transpose(1, 2, 0, 3).reshape(height, width, planes * samples)
    if rule.bands is None and values.shape[2] == tiff.colors + 1 and _has_alpha(page):
        values, opaque = _apart(values, page)
    is_cmyk = rule.bands is None and page.photometric == _CMYK
    return values[..., :4] if is_cmyk else rule.choose(values), opaque, _nodata(page)


def _apart(values: np.ndarray, page: TiffPage) -> tuple[np.ndarray, np.ndarray]:
    """The colors, divided by their alpha where that has been multiplied into them, and the opacity
    (H, W) uint8 that is the last band."""
    colors, alpha, bits = values[..., :-1], values[..., -1], page.bitspersample
    whole = alpha.dtype.kind == 'u'
    share = np.clip(np.nan_to_num(alpha / (2 ** bits - 1 if whole else 1.0)), 0, 1)
    if int(page.extrasamples[-1]) == _ASSOCIATED:
        divided = colors / np.where(share > 0, share, 1)[..., None]
        if colors.dtype.kind in 'iu':
            most = 2 ** bits - 1 if whole else np.iinfo(colors.dtype).max
            divided = np.clip(np.rint(divided), np.iinfo(colors.dtype).min, most)
        colors = divided.astype(colors.dtype)
    return colors, (alpha >> max(0, bits - 8) if whole else (255 * share).round()).astype(np.uint8)


def deep_pixels(tiff: Tiff, data: bytes, rule: PixelRule) -> np.ndarray:
    """(H, W, 3) uint8 RGB by the rule; alpha that the file declares lies on white.

    Raises:
        ValueError: as :func:`deep_values`, or the values have no range.
    """
    values, opaque, nodata = deep_values(tiff, data, rule)
    page = tiff.page
    eight = values if values.dtype == np.uint8 else rule.eight_bits(
        values, page.bitspersample, nodata)
    if page.photometric == _WHITE_IS_ZERO:      # but what is no value is black
        lost = values != values if nodata is None else (values != values) | (values == nodata)
        eight = np.where(lost, 0, 255 - eight)
    elif eight.shape[2] == _COLORS[_CMYK]:
        eight = np.asarray(Image.fromarray(np.ascontiguousarray(eight), 'CMYK').convert('RGB'))
    return on_white(eight, opaque)


def _nodata(page: TiffPage) -> float | None:
    """GDAL's "no data" tag, of which tifffile takes fewer than there are."""
    tag = page.tags.get(42113)
    try:
        return None if tag is None else float(str(tag.value).strip('\0 '))
    except ValueError:
        return None


def _decompressed_by_any(page: TiffPage, data: bytes) -> np.ndarray:
    """(planes, 1, H, W, samples) by the first decoder that can."""
    readers = (lambda page, _: page.asarray().reshape(page.shaped), _by_segments, _by_pillow)
    reason = ''
    for reader in (_by_opencv,) if page.compression in _LOGLUV else readers:
        try:
            return reader(page, data)
        except (ValueError, NotImplementedError, ImportError, OSError, SyntaxError) as error:
            reason = str(error)
    raise ValueError(f'a TIFF of {page.samplesperpixel} bands of {page.bitspersample} bits, '
                     f'compressed by {page.compression.name}, which cannot be read here '
                     f'({reason}); save it uncompressed or with deflate')


def _by_pillow(page: TiffPage, data: bytes) -> np.ndarray:
    """A single band by Pillow, which knows a few formats more."""
    with open_with_pillow(data) as image:
        values = np.asarray(image)
    if image.mode not in ('I;16', 'I;16B', 'I', 'F') or values.shape != page.shaped[2:4]:
        raise ValueError('Pillow does not read its values either')
    return values.astype(page.dtype).reshape(page.shaped)


def _by_opencv(page: TiffPage, data: bytes) -> np.ndarray:
    """Colors of a wide range, which only OpenCV writes and reads as numbers."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.shape[2] != 3:
        raise ValueError('OpenCV does not read its values')
    return values[None, None, ..., ::-1]


def _by_segments(page: TiffPage, data: bytes) -> np.ndarray:
    """(planes, 1, H, W, samples): every strip or tile decompressed by Pillow's libtiff."""
    planes, depth, height, width, samples = page.shaped
    if depth != 1 or page.bitspersample not in (8, 16, 32, 64):
        raise ValueError(f'{page.bitspersample} bits, {depth} slices')
    tall, wide = ((page.tilelength, page.tilewidth) if page.is_tiled else
                  (min(page.rowsperstrip, height), width))
    down, across = -(-height // tall), -(-width // wide)
    stored = np.dtype(page.dtype).newbyteorder('<' if data[:2] == b'II' else '>')
    values = np.zeros((planes, down * tall, across * wide, samples), page.dtype)
    for index, (start, count) in enumerate(zip(page.dataoffsets, page.databytecounts,
                                               strict=True)):
        plane, place = divmod(index, down * across)
        top, left = tall * (place // across), wide * (place % across)
        rows = tall if page.is_tiled else min(tall, height - top)
        raw = _decompressed(data[start:start + count], page.compression,
                            rows, wide * samples * stored.itemsize)
        values[plane, top:top + rows, left:left + wide] = _without_predictor(
            raw, stored, samples, page.predictor)
    return values[:, None, :height, :width]


def _decompressed(segment: bytes, compression: int, rows: int, width: int) -> np.ndarray:
    """(rows, width) uint8: the bytes of a segment, as the gray picture they are made to be."""
    if compression in (8, 32946):     # deflate
        raw = zlib.decompressobj().decompress(segment, rows * width)
        return np.frombuffer(raw, np.uint8).reshape(rows, width)
    tags = ((256, 4, width), (257, 4, rows), (258, 3, 8), (259, 3, compression), (262, 3, 1),
            (273, 4, 8), (277, 3, 1), (278, 4, rows), (279, 4, len(segment)))
    padded = segment + bytes(len(segment) % 2)
    directory = struct.pack('<H', len(tags)) + b''.join(
        struct.pack('<HHII', code, kind, 1, value) for code, kind, value in tags) + bytes(4)
    file = b'II*\0' + struct.pack('<I', 8 + len(padded)) + padded + directory
    quiet_libtiff()
    with _Segment(io.BytesIO(file)) as image:
        image.load()
        return np.asarray(image)


class _Segment(TiffImageFile):
    """A picture whose pixels are the bytes of others: how many these may be has been checked."""

    def load_prepare(self) -> None:
        self.im = Image.new(self.mode, self.size).im


def _without_predictor(raw: np.ndarray, stored: np.dtype, samples: int, predictor: int
                       ) -> np.ndarray:
    """(rows, pixels, samples) values of (rows, bytes), the differences between neighbors that
    compress better summed up again (TIFF 6.0, section 14; TIFF Technical Note 3)."""
    rows = len(raw)
    if predictor == 3:
        summed = np.cumsum(raw.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        spread = summed.reshape(rows, stored.itemsize, -1).transpose(0, 2, 1)
        values = np.ascontiguousarray(spread).view(stored.newbyteorder('>'))
        return values.reshape(rows, -1, samples)
    values = np.ascontiguousarray(raw).view(stored).reshape(rows, -1, samples)
    if predictor == 2:
        whole = values.astype(stored.newbyteorder('=')).view(f'u{stored.itemsize}')
        values = np.cumsum(whole, axis=1, dtype=whole.dtype).view(stored.newbyteorder('='))
    elif predictor != 1:
        raise ValueError(f'predictor {predictor}')
    return values
