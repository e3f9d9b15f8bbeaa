"""Region masks that need no labels: the manifest.

- ``felzenszwalb``: Felzenszwalb & Huttenlocher, *Efficient Graph-Based Image Segmentation*, IJCV
  2004, https://doi.org/10.1023/B:VISI.0000022288.19776.77; the masks of DetCon (arXiv 2103.10957).
  ``felzenszwalb_skimage`` is scikit-image's.
  ``multiscale_felzenszwalb`` keeps a label map for each of several scales.
- ``slic``: Achanta et al., *SLIC Superpixels Compared to State-of-the-Art Superpixel Methods*,
  TPAMI 2012, https://doi.org/10.1109/TPAMI.2012.120.
- ``grid``: equal rectangles, and ``whole_image``: the baselines without knowledge of the image.
- ``label_maps``: any folder of label maps; ``coco``: the objects of a JSON in COCO's format.
"""
from densessl import hookimpl


@hookimpl
def mask_generators():
    """The generators of this folder."""
    from densessl_plugins.masks.coco import Coco
    from densessl_plugins.masks.felzenszwalb import Felzenszwalb, FelzenszwalbSkimage
    from densessl_plugins.masks.grid import Grid
    from densessl_plugins.masks.label_maps import LabelMaps
    from densessl_plugins.masks.multiscale_felzenszwalb import MultiscaleFelzenszwalb
    from densessl_plugins.masks.slic import Slic
    from densessl_plugins.masks.whole_image import WholeImage
    return [Felzenszwalb, FelzenszwalbSkimage, MultiscaleFelzenszwalb, Slic, Grid, WholeImage,
            LabelMaps, Coco]
