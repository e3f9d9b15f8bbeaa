"""PNG files, chunk by chunk: what a viewer shows does not depend on the text that they carry.

Text, XMP and ICC chunks may be large, or small and inflate to gigabytes, and decoders refuse a file
for them. They are left out before any decoder sees the file; of those that may state the
orientation, at most :data:`TEXT` bytes are inflated.
"""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

SIGNATURE = b'\x89PNG\r\n\x1a\n'
TEXT = 1 << 20              # bytes of text that are searched for an orientation
_LEFT_OUT = (b'tEXt', b'zTXt', b'iTXt', b'iCCP')
_KEYWORDS = (b'Raw profile type exif\0', b'XML:com.adobe.xmp\0')    # of orientations
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}         # by color type
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))                           # of Adam7: x, y and their steps


@dataclass(frozen=True)
class Png:
    """What a PNG file says before its pixels are decoded.

    Attributes:
        data: the file without its text.
        size: (H, W) as stored. depth: bits a sample. color: PNG's color type.
        key: the content of its ``tRNS`` chunk.
        animated: whether it has more frames than one. whole: whether it has its end.
        about: an image without pixels that has the same EXIF data; None if it has none.
    """

    data: bytes
    size: tuple[int, int]
    depth: int
    color: int
    key: bytes | None
    animated: bool
    whole: bool
    about: bytes | None

    @property
    def plain(self) -> bool:
        """Whether OpenCV shows it as a viewer does."""
        return self.color in (0, 2) and self.key is None and not self.animated and self.whole


def read_png(data: bytes) -> Png | None:
    """The header of a PNG; None if that is damaged.

    Args:
        data: the whole file.
    """
    source, chunks = data, list(_chunks(data))
    if not chunks or chunks[0][0] != b'IHDR' or chunks[0][2] - chunks[0][1] != 25:
        return None
    width, height, depth, color = struct.unpack('>IIBB', data[16:26])
    if color not in _CHANNELS:
        return None
    found = {kind: data[start + 8:end - 4] for kind, start, end in reversed(chunks)
             if kind in (b'tRNS', b'acTL')}
    text = [one for one in chunks if one[0] in _LEFT_OUT]
    about = [data[start:end] for kind, start, end in chunks
             if kind == b'eXIf' or (kind in _LEFT_OUT and _may_turn(kind, data[start + 8:end - 4]))]
    if text:
        data = SIGNATURE + b''.join(data[start:end] for kind, start, end in chunks
                                    if kind not in _LEFT_OUT)
    return Png(data, (height, width), depth, color, found.get(b'tRNS'), b'acTL' in found,
               chunks[-1][0] == b'IEND' and chunks[-1][2] <= len(source),
               _stub(about) if about else None)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of every chunk; the last may end after the data."""
    start = len(SIGNATURE)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, start)
        yield kind, start, start + 12 + length
        if kind == b'IEND':
            return
        start += 12 + length


def _may_turn(kind: bytes, content: bytes) -> bool:
    """Whether a text chunk may state the orientation, and inflates to at most :data:`TEXT`."""
    if kind == b'iCCP' or not content.startswith(_KEYWORDS):
        return False
    rest = content.partition(b'\0')[2]
    if kind == b'iTXt':
        packed, rest = rest[:1] == b'\1', rest[2:].split(b'\0', 2)[-1]
    elif kind == b'zTXt':
        packed, rest = True, rest[1:]
    else:
        packed = False
    if not packed:
        return len(rest) <= TEXT
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(rest, TEXT)
    except zlib.error:
        return False
    return inflate.eof


def _stub(chunks: list[bytes]) -> bytes:
    """A picture of one pixel with these chunks."""
    return (SIGNATURE + _chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0, 0))
            + b''.join(chunks) + _chunk(b'IDAT', zlib.compress(b'\0\0')) + _chunk(b'IEND', b''))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (struct.pack('>I', len(content)) + kind + content
            + struct.pack('>I', zlib.crc32(kind + content)))


# -- 16 bits ---------------------------------------------------------------------------------------

def deep_values(png: Png) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of a 16-bit PNG, (H, W, 1 or 3) uint16 RGB, and how opaque each pixel is,
    (H, W) uint8, or None if all are."""
    data = np.frombuffer(png.data, np.uint8)
    has_alpha = png.color in (4, 6)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED if has_alpha else
                          cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
                          | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None or values.dtype != np.uint16:
        raise ValueError('broken PNG file: its data stream cannot be decoded')
    if values.ndim == 2:
        values = values[..., None]
    opaque = (values[..., 3] >> 8).astype(np.uint8) if has_alpha else None
    colors = values[..., 2::-1] if values.shape[2] > 1 else values
    if png.color == 4:
        colors = colors[..., :1]
    if png.key is not None and not has_alpha:
        key = np.frombuffer(png.key, '>u2')[:colors.shape[2]]
        opaque = np.where((colors == key).all(axis=2), 0, 255).astype(np.uint8)
    return colors, opaque


# -- files that end too early ----------------------------------------------------------------------

def completed(png: Png) -> tuple[bytes, int]:
    """A file that ends too early, completed by black rows; and how many of its rows are
    missing.

    Raises:
        ValueError: it ends before its pixels begin.
    """
    chunks = list(_chunks(png.data))
    packed = b''.join(png.data[start + 8:min(end - 4, len(png.data))] for kind, start, end in chunks
                      if kind == b'IDAT')
    sizes = _row_bytes(png)
    total = sum(sizes)
    try:
        found = zlib.decompressobj().decompress(packed, max(1, total))
    except zlib.error as error:
        raise ValueError(f'truncated, and its data stream is damaged ({error})') from error
    if not found:
        raise ValueError('truncated before its pixels begin')
    rows, left = 0, len(found)
    for size in sizes:
        rows, left = (rows + 1, left - size) if size <= left else (rows, 0)
    head = b''.join(png.data[start:end] for kind, start, end in chunks
                    if end <= len(png.data) and kind in (b'IHDR', b'PLTE', b'tRNS'))
    body = zlib.compress(found + bytes(total - len(found)), 1)
    missing = round((len(sizes) - rows) / len(sizes) * png.size[0])
    return SIGNATURE + head + _chunk(b'IDAT', body) + _chunk(b'IEND', b''), missing


def _row_bytes(png: Png) -> list[int]:
    """How many bytes each row has before compression, its filter included, pass by pass."""
    (height, width), bits = png.size, png.depth * _CHANNELS[png.color]
    passes = _PASSES if png.data[28] else ((0, 0, 1, 1),)
    sizes = []
    for x, y, across, down in passes:
        wide, high = -(-(width - x) // across), -(-(height - y) // down)
        if wide > 0 and high > 0:
            sizes += [1 + (wide * bits + 7) // 8] * high
    return sizes
