"""Label maps that others made, in files of several kinds: the header first, then the pixels."""
from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from densessl.files.opening import open_regular
from densessl.pixels.pillow_images import formats

MAX_PIXELS = 2 * (1 << 30) // 12        # Pillow's own bound for an image, 179 million
# Pillow also has formats that run other programs or fetch other files.
_FORMATS = ('PNG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG', 'PPM')


def read_label_image(path: str | Path, exact: bool = False) -> np.ndarray:
    """The values in a file, as they are stored: (H, W), or (H, W, bands) if it is in color. A
    palette's indices count, not its colors. ``exact`` refuses grays that libraries would change.

    Raises:
        ValueError: the file cannot be read, is not an image, is damaged, or has more than
            :data:`MAX_PIXELS`; the message says which.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=formats(_FORMATS)) as image:
            check_size(*image.size)
            if exact and any(re.search('L;[24I]', str(args)) or (
                    codec[:3] == 'ppm' and args[0] in 'LI' and args[-1] != 255)
                    for codec, _, _, args in image.tile):
                raise ValueError('its gray values are not of 8 bits, or inverted, and libraries '
                                 'change them; save it as PNG with 8 bits a pixel')
            return np.asarray(image)
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(str(error).splitlines()[0])) from error
    except UnidentifiedImageError as error:
        raise ValueError('it is not an image, or of an unknown kind') from error
    except (OSError, SyntaxError, EOFError, TypeError, LookupError, AttributeError, MemoryError,
            struct.error) as error:
        raise ValueError(getattr(error, 'strerror', None) or f'it is damaged ({error})') from error


def check_size(width: int, height: int) -> None:
    """Raise ValueError if a label map has too many pixels to be decoded."""
    if width * height > MAX_PIXELS:
        raise ValueError(_too_large(f'it says it has {width}×{height} pixels'))


def _too_large(found: str) -> str:
    return f'{found}; at most {MAX_PIXELS / 1e6:.0f} million are read: cut the image into tiles'
