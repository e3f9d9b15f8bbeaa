"""Words on pictures, in any script: what the font does not have is spelt out as its code point."""
from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
NOTHING = '\U0010ffff'      # a code point of no character: fonts draw it as one that they lack


def text_size(text: str, size: int) -> tuple[int, int]:
    """(width, height) in pixels that ``text`` takes; the height is that of a line."""
    font = _font(size)
    return round(font.getlength(legible(text))), sum(font.getmetrics())


def write(picture: np.ndarray, text: str, left: int, top: int, color: Color, size: int) -> None:
    """Write ``text`` into ``picture`` (H, W, 3) uint8, its upper left corner at (left, top); what
    does not fit is cut off."""
    width, height = text_size(text, size)
    part = picture[max(top, 0):top + height, max(left, 0):left + width + 1]
    if part.size:
        image = Image.fromarray(part)
        ImageDraw.Draw(image).text((min(left, 0), min(top, 0)), legible(text), fill=color,
                                   font=_font(size))
        part[:] = np.asarray(image)


def legible(text: str) -> str:
    """``text`` on one line, with the characters that the font lacks spelt out (``\\\\u9053``)."""
    return text if text.isascii() and text.isprintable() else ''.join(
        char if char.isprintable() and _is_drawn(char) else ascii(char)[1:-1] for char in text)


@cache
def _is_drawn(char: str) -> bool:
    font = _font(16)
    return bytes(font.getmask(char)) != bytes(font.getmask(NOTHING))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib (whose import is slow and not needed for it)."""
    folder = Path(find_spec('matplotlib').origin).parent
    return ImageFont.truetype(str(folder / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf'), size)
