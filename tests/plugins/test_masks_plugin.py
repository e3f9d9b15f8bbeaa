"""The mask generators of `plugins/masks`, built as a config builds them."""
import numpy as np
import pytest
from skimage.segmentation import felzenszwalb

from densessl.errors import UsageError
from densessl.masks.generator import MaskGenerator
from densessl.plugins import load_plugins
from densessl.registry import MASK_GENERATORS

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
HALVES = np.zeros((60, 80, 3), np.uint8)
HALVES[:, 33:] = (250, 40, 10)

CONFIGS = [dict(type='felzenszwalb', scale=100, sigma=0.8, min_size=20),
           dict(type='felzenszwalb_skimage', scale=100, sigma=0.8, min_size=20),
           dict(type='multiscale_felzenszwalb', scales=[50, 200], min_size=20),
           dict(type='slic', n_segments=20), dict(type='grid'), dict(type='whole_image')]


@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: config['type'])
@pytest.mark.parametrize('image', [
    NOISE, HALVES, NOISE[:1, :1], NOISE[:1], NOISE[:, :1], NOISE[:, ::-1],
    np.tile(NOISE, (1, 9, 1)),
    RNG.integers(0, 256, (10, 20000, 3), dtype=np.uint8),
], ids=['noise', 'halves', '1x1', 'row', 'column', 'strided', 'wide', '10x20000'])
def test_labels_are_contiguous(config, image):
    generator = MASK_GENERATORS.build(config)
    before = image.copy()
    labels = generator(image)
    assert np.issubdtype(labels.dtype, np.integer)
    assert labels.shape == ((generator.maps,) if generator.maps > 1 else ()) + image.shape[:2]
    for each in labels.reshape(-1, *image.shape[:2]):
        assert (np.unique(each) == np.arange(each.max() + 1)).all()
    assert (generator(image) == labels).all() and (image == before).all()


def test_felzenszwalb_skimage_is_that_of_scikit_image():
    generator = MASK_GENERATORS.build(dict(type='felzenszwalb_skimage', scale=30, sigma=0.5,
                                           min_size=9))
    expected = felzenszwalb(NOISE, scale=30, sigma=0.5, min_size=9)
    assert (generator(NOISE) == expected).all() and expected.max() > 2
    halves = MASK_GENERATORS.build(dict(type='felzenszwalb_skimage'))(HALVES)
    assert len(np.unique(halves)) == 2 and halves[0, 0] != halves[0, -1]


def test_every_scale_is_divided_as_by_itself():
    several = MASK_GENERATORS.build(dict(type='multiscale_felzenszwalb', scales=[20, 90, 400],
                                         sigma=0.5, min_size=[5, 9, 30]))(NOISE)
    for labels, scale, size in zip(several, (20, 90, 400), (5, 9, 30), strict=True):
        one = MASK_GENERATORS.build(dict(type='felzenszwalb', scale=scale, sigma=0.5,
                                         min_size=size))
        assert (labels == one(NOISE)).all()
    assert several[0].max() > several[1].max() > several[2].max() > 0


def test_parameters_are_the_published_ones():
    for name, version in (('felzenszwalb', 2), ('felzenszwalb_skimage', 1)):
        generator = MASK_GENERATORS.build(dict(type=name))
        assert generator.parameters() == {'scale': 1000.0, 'sigma': 0.8, 'min_size': 1000}
        assert generator.name == name and generator.version == version


def test_grid_divides_evenly():
    labels = MASK_GENERATORS.build(dict(type='grid', rows=3, cols=4))(NOISE)
    assert labels.max() == 11 and (np.bincount(labels.ravel()) == 400).all()
    assert (labels[:20, :20] == 0).all() and (labels[:20, 20:40] == 1).all()
    assert (labels[20:40, :20] == 4).all()
    many = MASK_GENERATORS.build(dict(type='grid', rows=500, cols=2))(NOISE)
    assert len(np.unique(many)) == 60 * 2


@pytest.mark.parametrize('config, says', [
    (dict(type='felzenszwalb', scal=3), "'scal' of mask generator 'felzenszwalb' "
     r"\(did you mean 'scale'\?\); it takes scale, sigma, min_size"),
    (dict(type='felzenszwalb', scale=0), 'scale must be a number above 0'),
    (dict(type='felzenszwalb', scale=float('nan')), 'scale must be a number above 0 .*not nan'),
    (dict(type='felzenszwalb', sigma=-1), 'sigma must be a number from 0 to 100, not -1'),
    (dict(type='felzenszwalb', min_size=-1), 'min_size must be .* from 0 to 2147483647'),
    (dict(type='felzenszwalb', scale='big'), "scale must be .*, not 'big'"),
    (dict(type='grid', rows=0), 'rows must be a whole number from 1 to 65536'),
    (dict(type='grid', cols=2.5), 'cols must be .* not 2.5'),
    (dict(type='felzenszwalb_skimage', scale=0), 'felzenszwalb_skimage.: scale must be'),
    (dict(type='multiscale_felzenszwalb', scales=300), 'scales must be a list, .* not 300'),
    (dict(type='multiscale_felzenszwalb', scales=[]), 'scales, such as'),
    (dict(type='multiscale_felzenszwalb', scales=[1, 0]), 'scales must be a list, each'),
    (dict(type='multiscale_felzenszwalb', scales=[1, 2], min_size=[3]), '2 scales but 1 values'),
    (dict(type='slic', n_segments=0), 'n_segments must be a whole number from 1 to 65536'),
    (dict(type='slic', compactness=0), 'compactness must be a number above 0'),
    (dict(type='slic', sigma='x'), "sigma must be .* not 'x'"),
    (dict(type='whole_image', size=3), 'it takes none'),
    (dict(type='label_maps'), 'needs folder'), (dict(type='label_maps', folder='gone'), 'not gone'),
    (dict(type='coco'), 'needs annotations'), (dict(type='coco', annotations='gone'), 'not gone'),
    (dict(type='felzenswalb'), "'felzenswalb' .did you mean 'felzenszwalb'"),
])
def test_wrong_parameters_are_named(config, says):
    with pytest.raises(UsageError, match=says):
        MASK_GENERATORS.build(config)


def test_the_manifest_provides_them():
    plugin = next(plugin for plugin in load_plugins() if plugin.name == 'masks')
    assert not plugin.reason
    for cls in plugin.provides['mask_generators']:
        assert issubclass(cls, MaskGenerator)
