"""Where patches are cut, and what of a view they share."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from densessl.errors import UsageError
from densessl.views.collate import collate
from densessl.views.photometry import ViewPreprocessor
from densessl.views.view import make_views
from densessl_plugins.pretext.patches import PatchGrid


def coordinates(height, width):
    """An image that says where each of its pixels is: row, column, 0."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], 2).astype(np.uint8)


def corners(view, rng, image):
    """Top left pixel of each patch, (T, 2), from the pixels alone."""
    boxes, flip, _ = view.draw(rng, *image.shape[:2])
    patches = view.cut(image, boxes, flip)
    assert patches.shape == (view.grid ** 2, view.patch, view.patch, 3)
    assert patches.dtype == np.uint8
    first = patches[:, :1, :1, :2].astype(int)
    y, x = np.mgrid[:view.patch, :view.patch]
    assert (patches[..., :2] - first == np.stack([y, x], 2)).all(), 'a patch is not one square'
    return first[:, 0, 0]


def test_patches_move_within_their_cells_and_keep_the_gap():
    view = PatchGrid(patch=20, grid=3, shift=7, gap=5, resize=200)
    assert view.size == 3 * 32 - 5
    image, shifts, crops = coordinates(200, 230), [], set()
    for n in range(200):
        boxes = view.draw(np.random.default_rng(n), 200, 230)[0]
        crops.add(boxes.crop)
        places = corners(view, np.random.default_rng(n), image).reshape(3, 3, 2)
        inside = places - boxes.crop[:2]
        cells = 32 * np.stack(np.mgrid[:3, :3], 2)
        shifts.append(inside - cells)
        distance = places[:, 1:, 1] - places[:, :-1, 1] - 20
        assert distance.min() >= 5 and distance.max() <= 5 + 2 * 7
    shifts = np.array(shifts)
    assert shifts.min() == 0 and shifts.max() == 7 and len(crops) > 150
    assert np.bincount(shifts.ravel(), minlength=8).min() > 350     # of 450 of each


def test_published_grids():
    for kwargs, side in ((dict(patch=64, grid=3, shift=21, resize=292), 255),
                         (dict(patch=64, grid=7, shift=0, gap=-32, resize=300), 256)):
        assert PatchGrid(**kwargs).size == side


def test_overlapping_patches_share_pixels():
    view = PatchGrid(patch=16, grid=5, shift=0, gap=-8, resize=60)
    assert view.size == 48
    boxes, flip, _ = view.draw(np.random.default_rng(0), 60, 60)
    patches = view.cut(coordinates(60, 60), boxes, flip).reshape(5, 5, 16, 16, 3)
    assert np.array_equal(patches[:, :-1, :, 8:], patches[:, 1:, :, :8])
    assert np.array_equal(patches[:-1, :, 8:], patches[1:, :, :8])


def test_the_crop_has_the_scale_of_the_resized_image():
    """Short side 128 counts as 64: the crop of 48 px is 96 px of the image, reduced to half."""
    view = PatchGrid(patch=16, grid=3, shift=0, resize=64)
    boxes, flip, _ = view.draw(np.random.default_rng(1), 128, 200)
    assert boxes.crop[2:] == (96, 96)
    patches = view.cut(coordinates(128, 200), boxes, flip).astype(int)
    steps = np.diff(patches[..., 1], axis=2)
    assert set(np.unique(steps)) <= {1, 2, 3} and steps.mean() == pytest.approx(2, abs=0.05)


def test_an_inner_square_is_kept_and_its_edge_repeated():
    view = PatchGrid(patch=16, inner=12, grid=2, shift=0, resize=40)
    places = set()
    for n in range(300):
        boxes, flip, _ = view.draw(np.random.default_rng(n), 40, 40)
        patches = view.cut(coordinates(40, 40), boxes, flip)
        assert patches.shape == (4, 16, 16, 3)
        core = patches[:, 2:14, 2:14]
        assert np.array_equal(np.pad(core, ((0, 0), (2, 2), (2, 2), (0, 0)), 'edge'), patches)
        places |= {tuple(place) for place in boxes.corners[:1]}
    assert len(places) == 25


def test_masks_are_cut_like_the_image():
    image = coordinates(64, 64)
    view = PatchGrid(patch=8, grid=3, shift=4, resize=64, flip=1.0)
    sample = make_views([view], np.random.default_rng(0), image, image[..., 0].astype(np.int32), 1)
    assert np.array_equal(sample['mask'][0], sample['image'][0][..., 0])


def test_patches_share_the_photometry_of_their_view():
    """Gray in all patches of a sample or in none, and normalized like single images."""
    view = PatchGrid(patch=8, grid=3, shift=2, resize=32, gray=0.5)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    samples = [make_views([view], np.random.default_rng(n), noise, None, 3) for n in range(12)]
    preprocessor = ViewPreprocessor(mean=(0, 0, 0), std=(255, 255, 255))
    out, = preprocessor(collate(samples))['views']
    assert out.image.shape == (12, 9, 3, 8, 8) and out.uniforms.shape == (12, 3)
    assert out.image.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    gray = (out.image[:, :, 0] == out.image[:, :, 1]).flatten(2).all(2)     # (12, 9)
    assert torch.equal(gray.any(1), gray.all(1)) and 2 <= gray.all(1).sum() <= 10
    for n in torch.nonzero(~gray.all(1))[:, 0].tolist():
        expected = torch.from_numpy(samples[n]['image'][0]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(out.image[n], expected)


@pytest.mark.parametrize('wrong, word', [
    (dict(resize=254), 'need 255 pixels'), (dict(gap=-64), 'gap must be'),
    (dict(inner=65), 'inner'), (dict(grid=0), 'grid'), (dict(interpolation='cubic'), 'bicubic')])
def test_bad_arguments_are_named(wrong, word):
    with pytest.raises(UsageError, match=word):
        PatchGrid(**{'patch': 64, 'grid': 3, 'shift': 21, **wrong})


@pytest.mark.parametrize('height, width', [(1, 1), (3, 400), (400, 3), (2, 2)])
def test_images_of_odd_sizes(height, width):
    view = PatchGrid(patch=16, grid=3, shift=2, resize=60)
    for n in range(20):
        boxes, flip, _ = view.draw(np.random.default_rng(n), height, width)
        assert view.cut(coordinates(height, width), boxes, flip).shape == (9, 16, 16, 3)


@pytest.mark.parametrize('key', ['patch', 'grid', 'shift', 'gap', 'resize', 'inner'])
@pytest.mark.parametrize('value', [-4000, 1.5, float('nan'), float('inf'), 1e12, 10 ** 30, '3',
                                   True, [3]])
def test_numbers_of_patches_are_bounded(key, value):
    with pytest.raises(UsageError, match=rf'^{key} must be a whole number from .*, not '):
        PatchGrid(**{'patch': 64, 'grid': 3, 'shift': 21, key: value})


def test_a_blurs_kernel_follows_the_patch():
    """What is blurred is a patch, not the crop that the patches are cut from."""
    view = PatchGrid(patch=40, grid=3, shift=20, blur=dict(p=1.0, sigma=(0.1, 2.0)))
    assert view.size == 180 and view.photometric['blur']['kernel'] == 5
