"""The size at which a whole image is seen, whatever its shape."""
from __future__ import annotations

from collections.abc import Sequence

LONGEST = 16        # short sides; a row of pixels of some bytes would fill the memory


def scaled_size(size: Sequence[int], short: int, multiple: int) -> tuple[int, int]:
    """(h, w) of an image of (H, W) pixels whose short side becomes ``short`` pixels, both rounded
    to multiples; a side of more than :data:`LONGEST` short ones becomes as long as these."""
    scale = short / min(size)
    height, width = (max(1, round(min(side, LONGEST * min(size)) * scale / multiple)) * multiple
                     for side in size)
    return height, width
