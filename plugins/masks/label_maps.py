"""Label maps that the user has already: ground truth, the output of another tool."""
from __future__ import annotations

import os
import posixpath
from pathlib import Path

import numpy as np

from densessl import MaskGenerator
from densessl.errors import UsageError
from densessl.labels.label_ids import read_stored
from densessl.pixels.label_image import check_size

EXTENSIONS = ('.png', '.tif', '.tiff')


class LabelMaps(MaskGenerator):
    """Every value (or color) of an image's label map is a region.

    Args:
        folder: the label maps, which mirror the images: that of ``a/b.jpg`` is ``a/b.png``,
            ``a/b.tif`` or ``a/b.tiff``, of the size at which the image is displayed.
    """

    name = 'label_maps'

    def __init__(self, *, folder: str) -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder))
        if not os.path.isdir(self.folder):
            raise UsageError(f'label_maps needs a folder of label maps, not {folder}')

    def for_image(self, name: str, image: np.ndarray) -> np.ndarray:
        """Read the label map of ``name``.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it holds no labels.
        """
        for path in self.files_for(name):
            return as_regions(read_labels(path))
        raise FileNotFoundError(f'no label map {self._stem(name)}{{{",".join(EXTENSIONS)}}}')

    def files_for(self, name: str) -> list[Path]:
        stem = self._stem(name)
        paths = (stem.with_name(stem.name + extension) for extension in EXTENSIONS)
        return [path for path in paths if path.exists()][:1]

    def _stem(self, name: str) -> Path:
        return Path(self.folder) / posixpath.splitext(name)[0]


def read_labels(path: Path) -> np.ndarray:
    """The values in a file, as they are stored: (H, W), or (H, W, bands) if it is in color. A
    palette's indices count, not its colors."""
    if path.suffix == '.png':
        return read_stored(path)
    return _read_tiff(path)


def _read_tiff(path: Path) -> np.ndarray:
    from tifffile import TiffFile, TiffFileError
    try:
        with TiffFile(path) as file:
            if not file.pages:
                raise ValueError('it holds no image')
            page = file.pages[0]
            check_size(page.imagewidth, page.imagelength)
            return file.asarray(key=0)
    except TiffFileError as error:
        raise ValueError(f'it is not a TIFF, or damaged ({error})') from error


def as_regions(values: np.ndarray) -> np.ndarray:
    """(H, W) labels 0..n-1 of (H, W) values or (H, W, 1 to 4) colors, in the order of the values.

    Raises:
        ValueError: another shape, or values that are not whole numbers.
    """
    if values.dtype.kind == 'f' and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in 'biu' or values.ndim not in (2, 3) \
            or (values.ndim == 3 and values.shape[2] > 4):
        raise ValueError(f'a label map holds whole numbers or colors, (H, W) or (H, W, bands), not '
                         f'{values.shape} {values.dtype}')
    if values.ndim == 3:                        # one number a color; 4 bands of 16 bits fit
        values = sum(values[..., band].astype(np.uint64) << np.uint64(16 * band)
                     for band in range(values.shape[2]))
    return np.unique(values, return_inverse=True)[1].reshape(values.shape)
