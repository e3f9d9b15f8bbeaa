"""Region masks that need no labels: the manifest.

- ``felzenszwalb``: Felzenszwalb & Huttenlocher, *Efficient Graph-Based Image Segmentation*, IJCV
  2004, https://doi.org/10.1023/B:VISI.0000022288.19776.77; the masks of DetCon (arXiv 2103.10957).
  ``felzenszwalb_skimage`` is scikit-image's.
- ``grid``: equal rectangles, the baseline without knowledge of the image.
"""
from densessl import hookimpl


@hookimpl
def mask_generators():
    """The generators of this folder."""
    from densessl_plugins.masks.felzenszwalb import Felzenszwalb, FelzenszwalbSkimage
    from densessl_plugins.masks.grid import Grid
    return [Felzenszwalb, FelzenszwalbSkimage, Grid]
