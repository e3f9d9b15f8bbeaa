"""Generators that make several label maps of an image, and training that draws one of them."""
import numpy as np
import pytest
from PIL import Image

from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.masks.generator import MaskGenerator, MaskStore, make_masks
from densessl.views.dataset import ViewDataset
from densessl.views.view import AugmentedView

RNG = np.random.default_rng(0)


class Columns(MaskGenerator):
    """Label maps of 1, 2, 3, … columns."""

    name = 'columns'

    def __init__(self, *, maps: int = 3) -> None:
        self.maps = maps

    def __call__(self, image):
        height, width = image.shape[:2]
        x = np.arange(width) * np.ones((height, 1), int)
        labels = np.stack([x * count // width for count in range(1, self.maps + 1)])
        return labels if self.maps > 1 else labels[0]


@pytest.fixture
def images(tmp_path):
    (tmp_path / 'in' / 'a').mkdir(parents=True)
    for i in range(4):
        Image.fromarray(RNG.integers(0, 256, (12, 18, 3), dtype=np.uint8)).save(
            tmp_path / 'in' / 'a' / f'{i}.png')
    return find_images(tmp_path / 'in')


def test_every_map_has_its_folder(tmp_path, images):
    make_masks(images, tmp_path / 'out', Columns(), workers=1)
    store = MaskStore(tmp_path / 'out')
    assert store.maps == 3 and store.complete and store.info['masks'] == 4
    assert store.path('a/1.png', 2) == tmp_path / 'out' / '2' / 'a' / '1.png'
    for which in range(3):
        assert store.read('a/1.png', which).max() == which
    store.path('a/1.png', 1).unlink()
    assert not store.has('a/1.png') and store.has('a/2.png')
    summary = make_masks(images, tmp_path / 'out', Columns(), workers=1)
    assert (summary.made, summary.kept) == (1, 3)
    with pytest.raises(UsageError, match='was made with'):
        make_masks(images, tmp_path / 'out', Columns(maps=2), workers=1)
    make_masks(images, tmp_path / 'one', Columns(maps=1), workers=1)
    assert 'maps' not in MaskStore(tmp_path / 'one').info
    assert MaskStore(tmp_path / 'one').path('a/1.png') == tmp_path / 'one' / 'a' / '1.png'


def test_a_wrong_number_of_maps_is_said(tmp_path, images):
    class Wrong(Columns):
        def __call__(self, image):
            return super().__call__(image)[:2]
    with pytest.raises(UsageError, match=r'masks of shape \(2, 12, 18\)'):
        make_masks(images, tmp_path / 'out', Wrong(), workers=1)


def test_training_draws_one_for_each_sample(tmp_path, images):
    make_masks(images, tmp_path / 'out', Columns(), workers=1)
    view = AugmentedView(size=16, area=(1.0, 1.0), ratio=(1.5, 1.5))
    data = ViewDataset(images, MaskStore(tmp_path / 'out'), [view, view], seed=3)
    drawn = [[int(mask.max()) for mask in data[n, n % 4]['mask']] for n in range(60)]
    assert all(one == two for one, two in drawn), 'both views of a sample share their regions'
    counts = np.bincount([one for one, _ in drawn], minlength=3)
    assert counts.min() > 10, counts
    again = [[int(mask.max()) for mask in data[n, n % 4]['mask']] for n in reversed(range(60))]
    assert again[::-1] == drawn, 'a function of the seed and the position'


def test_one_map_leaves_the_views_as_they_were(tmp_path, images):
    """A store with one label map draws nothing, so that runs of before are the same runs."""
    make_masks(images, tmp_path / 'out', Columns(maps=1), workers=1)
    view = AugmentedView(size=16)
    with_store, without = (ViewDataset(images, store, [view], seed=3)[5, 1]
                           for store in (MaskStore(tmp_path / 'out'), None))
    assert (with_store['image'][0] == without['image'][0]).all()
