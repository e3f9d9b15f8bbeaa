"""Odd image files, written byte by byte or by libraries that the readers do not share."""
from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image

from densessl.pixels.decode import open_data
from densessl.pixels.pixel_rule import PLAIN, PixelRule

RANDOM = np.random.default_rng(0)
GRAY16 = RANDOM.integers(0, 65536, (20, 30)).astype(np.uint16)
GRAY12 = RANDOM.integers(30, 4000, (20, 30)).astype(np.uint16)
COLORS = RANDOM.integers(0, 256, (20, 30, 3)).astype(np.uint8)
SMOOTH = cv2.resize(COLORS[:5, :5], (160, 128), interpolation=cv2.INTER_CUBIC)


def decode(name: str, data: bytes, rule: PixelRule = PLAIN) -> np.ndarray:
    """The pixels of a file of these contents."""
    return open_data(name, data, rule).pixels()


def gray(values: np.ndarray) -> np.ndarray:
    """(H, W) → (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return (struct.pack('>I', len(content)) + kind + content
            + struct.pack('>I', zlib.crc32(kind + content)))


def png16(values: np.ndarray, color: int, before: bytes = b'', after: bytes = b'') -> bytes:
    """A PNG of 16-bit values with other chunks before and after its pixels."""
    height, width = values.shape[:2]
    raw = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    header = struct.pack('>IIBBBBB', width, height, 16, color, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + before
            + chunk(b'IDAT', zlib.compress(raw)) + after + chunk(b'IEND', b''))


def tiff(values: np.ndarray, **options: object) -> bytes:
    """A TIFF by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def by_pillow(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """A file by Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def exif(kind: int, count: int, value: bytes, more: bytes = b'') -> bytes:
    """EXIF data whose orientation has this TIFF type, count and value."""
    return (b'Exif\0\0II*\0\x08\0\0\0\x01\0' + struct.pack('<HHI', 274, kind, count)
            + value.ljust(4, b'\0') + bytes(4) + more)


def lzw_bands(values: np.ndarray, predictor: int = 1) -> bytes:
    """A TIFF of (H, W, bands), little-endian, LZW-compressed in strips of 7 rows.

    The strips are those of a gray picture of the same bytes, which Pillow can write."""
    height, width, bands = values.shape
    stored = values.astype(values.dtype.newbyteorder('<'))
    if predictor == 2:
        whole = stored.view(f'<u{stored.itemsize}')
        stored = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
    rows = np.ascontiguousarray(stored).view(np.uint8).reshape(height, -1)
    if predictor == 3:      # TIFF Technical Note 3: most significant bytes first, then differences
        size = stored.itemsize
        planes = np.ascontiguousarray(values.astype(values.dtype.newbyteorder('>'))).view(np.uint8)
        planes = planes.reshape(height, width * bands, size).transpose(0, 2, 1)
        flat = planes.reshape(height, -1, bands)
        rows = np.diff(flat, axis=1, prepend=np.zeros_like(flat[:, :1])).reshape(height, -1)
    strips = []
    for top in range(0, height, 7):
        packed = by_pillow(rows[top:top + 7], 'TIFF', compression='tiff_lzw')
        with tifffile.TiffFile(io.BytesIO(packed)) as file:
            page = file.pages[0]
            assert len(page.dataoffsets) == 1
            start, count = page.dataoffsets[0], page.databytecounts[0]
        strips.append(packed[start:start + count] + bytes(count % 2))
    return _assembled(values, strips, predictor)


def _assembled(values: np.ndarray, strips: list[bytes], predictor: int) -> bytes:
    height, width, bands = values.shape
    offsets = 8 + np.cumsum([0, *map(len, strips)])
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [8 * values.itemsize] * bands),
            (259, 3, [5]), (262, 3, [1]), (273, 4, offsets[:-1].tolist()), (277, 3, [bands]),
            (278, 4, [7]), (279, 4, [len(strip) for strip in strips]), (317, 3, [predictor]),
            (338, 3, [0] * (bands - 1)),
            (339, 3, [{'u': 1, 'i': 2, 'f': 3}[values.dtype.kind]] * bands)]
    where = int(offsets[-1]) + 2 + 12 * len(tags) + 4
    entries, extra = b'', b''
    for code, kind, numbers in tags:
        packed = np.array(numbers, '<u2' if kind == 3 else '<u4').tobytes()
        if len(packed) > 4:
            extra, packed = extra + packed, struct.pack('<I', where + len(extra))
        entries += struct.pack('<HHI', code, kind, len(numbers)) + packed.ljust(4, b'\0')
    return (b'II*\0' + struct.pack('<I', offsets[-1]) + b''.join(strips)
            + struct.pack('<H', len(tags)) + entries + bytes(4) + extra)
