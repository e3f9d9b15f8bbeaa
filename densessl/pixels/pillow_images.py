"""What Pillow is asked for, and how many pixels an image may have."""
from __future__ import annotations

import ctypes
import io
import logging
import os
import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from densessl.errors import UsageError
from densessl.pixels.pixel_rule import PixelRule

LIMIT = 'DENSESSL_MAX_PIXELS'     # the environment variable
# Only these are tried: Pillow also has formats that run other programs or fetch other files.
_FORMATS = ('JPEG', 'MPO', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'AVIF', 'JPEG2000', 'PPM')

# What odd tags do to pixels, and how many these may be, is decided here and in the modules around;
# what cannot be read is raised, and named where it is caught.
logging.getLogger('PIL').setLevel(logging.CRITICAL)
warnings.filterwarnings('ignore', module=r'PIL\..*')
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


@cache
def quiet_libtiff() -> None:
    """Have the libtiff in Pillow's wheels not print to stderr what Pillow raises anyway."""
    for path in Path(Image.__file__).parents[1].glob('[Pp]illow.libs/libtiff*'):
        try:
            library = ctypes.CDLL(str(path))
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
        except (OSError, AttributeError):     # another build: it stays as loud as it is
            continue


@cache
def formats(wanted: tuple[str, ...] = _FORMATS) -> tuple[str, ...]:
    """Those of the formats that this Pillow has."""
    Image.init()
    quiet_libtiff()
    return tuple(name for name in wanted if name in Image.OPEN)


def open_with_pillow(data: bytes) -> Image.Image:
    """An image of which Pillow has read the header, however many pixels we allow."""
    if LIMIT in os.environ:
        Image.MAX_IMAGE_PIXELS = -(-most_pixels() // 2)     # Pillow refuses twice that
    return Image.open(io.BytesIO(data), formats=formats())


def most_pixels() -> int:
    """How many pixels an image may have: ``$DENSESSL_MAX_PIXELS``, else what Pillow takes for a
    decompression bomb, twice ``PIL.Image.MAX_IMAGE_PIXELS``.

    Raises:
        UsageError: the variable is not a whole number above 0.
    """
    text = os.environ.get(LIMIT)
    if text is None:
        return 2 * (Image.MAX_IMAGE_PIXELS or 1 << 40)
    if not text.isdecimal() or not int(text):
        raise UsageError(f'{LIMIT} must be a whole number of pixels, such as 1000000000, '
                         f'not {text!r}')
    return int(text)


def require_size(size: tuple[int, int]) -> None:
    """Raise ValueError unless an image of (H, W) pixels has some, and no more than allowed."""
    if min(size) < 1:
        raise ValueError(f'its header says that it has {size[1]}×{size[0]} pixels')
    if size[0] * size[1] > most_pixels():
        raise ValueError(too_large(size[0] * size[1]))


def require_values(size: tuple[int, int], bands: int) -> None:
    """Raise ValueError if a file of many bands has more values than a large picture has."""
    count = size[0] * size[1] * bands
    if count > 4 * most_pixels():
        raise ValueError(f'{count} values in {bands} bands are more than four times the limit of '
                         f'{most_pixels()} pixels that keeps decompression bombs out: if you trust '
                         f'the file, raise it with {LIMIT}={-(-count // 4)}')


def too_large(pixels: int | str) -> str:
    """Why an image of so many pixels is not read, and how to have it read. The number is taken from
    Pillow's own message."""
    count = pixels if isinstance(pixels, int) else int(re.findall(r'\d+', pixels)[0])
    return (f'{count} pixels are more than the limit of {most_pixels()} that keeps decompression '
            f'bombs out: if you trust the file, raise it with {LIMIT}={count}')


def by_pillow(image: Image.Image, rule: PixelRule) -> np.ndarray:
    """(H, W, 3) uint8 RGB as stored; what is transparent lies on white."""
    image.load()
    if image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in image.info:
        return _over_white(image.convert('LA' if image.mode == 'La' else 'RGBA').convert('RGBA'))
    if image.mode[0] in 'IF':               # 16 bits, in which Pillow may keep them as 32; floats
        values = np.asarray(image)
        if image.mode[0] == 'I' and values.min() >= 0 and values.max() <= 0xffff:
            values = values.astype(np.uint16)
        return on_white(rule.eight_bits(values, 16)[..., None], None)
    return np.asarray(image.convert('RGB'))


def on_white(colors: np.ndarray, opaque: np.ndarray | None) -> np.ndarray:
    """(H, W, 1 or 3) uint8 over white, by (H, W) uint8 opacity → (H, W, 3)."""
    colors = np.repeat(colors, 3, axis=2) if colors.shape[2] == 1 else colors
    return colors if opaque is None else _over_white(Image.fromarray(np.dstack([colors, opaque])))


def _over_white(image: Image.Image) -> np.ndarray:
    ground = Image.new('RGBA', image.size, 'white')
    return np.asarray(Image.alpha_composite(ground, image).convert('RGB'))
