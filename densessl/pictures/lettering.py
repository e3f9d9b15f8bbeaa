"""Words on pictures in any script that the plots' font has, where OpenCV's own has ASCII alone."""
from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]


def text_size(text: str, size: int) -> tuple[int, int]:
    """(width, height) in pixels that ``text`` takes; the height is that of a line."""
    font = _font(size)
    return round(font.getlength(text)), sum(font.getmetrics())


def write(picture: np.ndarray, text: str, left: int, top: int, color: Color, size: int) -> None:
    """Write ``text`` into ``picture`` (H, W, 3) uint8, its upper left corner at (left, top)."""
    width, height = text_size(text, size)
    part = picture[max(top, 0):top + height, max(left, 0):left + width + 1]
    if part.size:
        image = Image.fromarray(part)
        ImageDraw.Draw(image).text((min(left, 0), min(top, 0)), text, fill=color, font=_font(size))
        part[:] = np.asarray(image)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib
    path = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
    return ImageFont.truetype(str(path), size)
