"""Photos whose end is missing, read as viewers show them: labels were drawn on what is shown.

Pretraining leaves such a file out (:mod:`densessl.data.decode` refuses it), since others are there
in plenty. A labelled image is worth more, and its label map fits what a viewer shows of it.
"""
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from densessl.data.decode import UnreadableImage, open_data, read_data

MOST_LOST = 0.25   # of the rows; with more of it missing, an image is not what was labelled
_END_OF_JPEG = b'\xff\xd9'
_EMPTY = {'JPEG': 128, 'PNG': 0}      # the value that decoders leave where the data ends


def read_labelled(path: str | Path) -> tuple[np.ndarray, str | None]:
    """As :func:`read_labelled_data`, of a file."""
    return read_labelled_data(path, read_data(path))


def read_labelled_data(name: str | Path, data: bytes) -> tuple[np.ndarray, str | None]:
    """Decode a labelled image as a viewer shows it, also if the end of the file is missing.

    Args:
        name: what messages call the file. data: its contents.

    Returns:
        (H, W, 3) uint8 RGB; and what is odd about it, in words, or None.

    Raises:
        UnreadableImage: as :func:`~densessl.data.decode.read_image`, or more than
            :data:`MOST_LOST` of the rows are missing.
    """
    try:
        return open_data(name, data).pixels(), None
    except UnreadableImage:
        shown = _shown(name, data)
        if shown is None:
            raise
    pixels, lost = shown
    if lost > MOST_LOST * len(pixels):
        raise UnreadableImage(name, f'the end of the file is missing, with {lost} of its '
                                    f'{len(pixels)} rows')
    return pixels, (f'the end of the file is missing{f", with {lost} of its rows" if lost else ""}'
                    f'; it is read as viewers show it')


def _shown(name: str | Path, data: bytes) -> tuple[np.ndarray, int] | None:
    """The pixels of a file without its end, and how many of its rows are empty; None if that is
    not what is wrong with it.

    Pillow decodes what is there; written out whole, it is read as any other file.
    """
    whole = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data + _END_OF_JPEG), formats=list(_EMPTY)) as image:
            try:
                image.load()
            except OSError as error:
                if 'truncated' not in str(error):     # a wrong checksum, for example
                    return None
            image.tile = []                           # nothing more is to be decoded
            empty = _EMPTY[image.format]
            image.save(whole, 'PNG', compress_level=0, exif=image.getexif())
        pixels = open_data(name, whole.getvalue()).pixels()
    except (OSError, SyntaxError, ValueError, UnreadableImage):   # damaged in another way
        return None
    filled = np.flatnonzero((pixels != empty).any((1, 2)))
    return pixels, len(pixels) - (int(filled[-1]) + 1 if len(filled) else 0)
