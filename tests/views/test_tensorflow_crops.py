"""TensorFlow's style: crops, resizing and whole views."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow_views as reference
from PIL import Image
from scipy import stats

from densessl.config import load_config
from densessl.errors import UsageError
from densessl.views import photometry_draw as draw
from densessl.views.bicubic import resize_crop
from densessl.views.crops import clipped_crop, distorted_box, draw_crop
from densessl.views.view import AugmentedView, cut_views, draw_views, make_views

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def shares(sampler, number=6000, height=480, width=1280):
    rng = np.random.default_rng(0)
    boxes = np.array([sampler(rng, height, width, AREA, RATIO) for _ in range(number)])
    return boxes[:, 2] * boxes[:, 3] / (height * width)


@pytest.mark.parametrize('sampler, expected', [(draw_crop, 0.242), (clipped_crop, 0.414)])
def test_share_of_a_long_image_in_a_crop(sampler, expected):
    """Measured on the released code with images of 480 × 1280."""
    found = shares(sampler)
    assert abs(found.mean() - expected) < 4 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize('height, width', [(480, 1280), (375, 500), (500, 120)])
def test_clipped_crops_are_those_of_the_release(height, width):
    """All at once, as their three lines say it: round, minimum, a uniform place."""
    rng = np.random.default_rng(1)
    area = rng.uniform(0.08, 1.0, 4000) * height * width
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 4000))
    w = np.minimum(np.round(np.sqrt(area * ratio)), width)
    h = np.minimum(np.round(np.sqrt(area / ratio)), height)
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    rng = np.random.default_rng(0)
    ours = np.array([clipped_crop(rng, height, width, AREA, RATIO) for _ in range(4000)])
    for mine, theirs in zip(ours.T, (top, left, h, w), strict=True):
        assert stats.ks_2samp(mine, theirs).statistic < 0.037      # 1 % significant


@pytest.mark.parametrize('height, width', [(480, 1280), (375, 500), (500, 120)])
def test_distorted_boxes_are_those_of_the_kernel(height, width):
    ours, theirs = (np.array([sampler(np.random.default_rng((seed, n)), height, width, AREA, RATIO)
                              for n in range(4000)])
                    for seed, sampler in enumerate((distorted_box, reference.distorted_box)))
    for mine, other in zip((*ours.T, ours[:, 2] * ours[:, 3]),
                           (*theirs.T, theirs[:, 2] * theirs[:, 3]), strict=True):
        assert stats.ks_2samp(mine, other).statistic < 0.037
    assert (ours[:, 2] * ours[:, 3]).min() >= 0.1 * height * width
    free = ours[:, 2] < height
    assert (ours[free, 0] + ours[free, 2]).max() < height, 'the last row is never reached'


def test_a_box_that_cannot_be_drawn_is_the_whole_image():
    rng = np.random.default_rng(0)
    assert distorted_box(rng, 5000, 1, AREA, RATIO) == (0, 0, 5000, 1)
    assert distorted_box(rng, 60, 60, (1.0, 1.0), (2.0, 3.0)) == (0, 0, 60, 60)


@pytest.mark.parametrize('sampler', [clipped_crop, distorted_box])
@pytest.mark.parametrize('height, width', [(1, 1), (20000, 10), (10, 20000), (3, 5)])
def test_crops_of_odd_sizes_stay_inside(sampler, height, width):
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, left, h, w = sampler(rng, height, width, AREA, RATIO)
        assert 0 <= top and top + h <= height and h >= 1
        assert 0 <= left and left + w <= width and w >= 1


# -- resizing --------------------------------------------------------------------------------------

@pytest.mark.parametrize('height, width', [(1, 1), (1, 5000), (7, 3), (64, 64), (150, 97),
                                           (480, 640)])
def test_bicubic_is_tensorflows_to_half_a_level(height, width):
    image = reference.pictures(4, height + 2, width + 3)[1 + height % 2]
    out = resize_crop(image, (1, 2, height, width), 64)
    expected = reference.resized(image[1:1 + height, 2:2 + width], 64)
    difference = np.abs(out - expected)
    assert difference.max() < 0.5 + 2e-3 and difference.mean() < 0.26
    if height == 64:
        assert np.array_equal(out, image[1:65, 2:66])


def test_enlarging_is_pillows_which_has_the_same_kernel():
    # not up to black and white: Pillow rounds and clips between rows and columns
    image = 60 + reference.pictures(4, 20, 31)[1] * 40
    out = resize_crop(image, (0, 0, 20, 31), 96)
    theirs = np.array(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
    assert np.abs(out.astype(int) - theirs).max() <= 1
    opencv = cv2.resize(image, (96, 96), interpolation=cv2.INTER_CUBIC)
    assert np.abs(opencv.astype(int) - theirs).max() > 5, 'a = −0.75'


@pytest.mark.parametrize('image, box, size', [
    (np.zeros((8, 8, 3), np.float32), (0, 0, 8, 8), 4), (np.zeros((8, 8), np.uint8),
                                                         (0, 0, 8, 8), 4),
    (np.zeros((8, 8, 3), np.uint8), (0, 0, 9, 8), 4), (np.zeros((8, 8, 3), np.uint8),
                                                       (-1, 0, 4, 4), 4),
    (np.zeros((8, 8, 3), np.uint8), (0, 0, 0, 4), 4), (np.zeros((8, 8, 3), np.uint8),
                                                       (0, 0, 4, 4), 0)])
def test_the_door_of_resizing_refuses_what_is_not_inside(image, box, size):
    with pytest.raises(ValueError, match=r'must be|does not fit'):
        resize_crop(image, box, size)


def test_any_layout_of_an_image_is_resized_alike():
    image = reference.pictures(4, 30, 40)[1]
    image.flags.writeable = False
    whole = resize_crop(image, (3, 4, 20, 30), 16)
    turned = np.ascontiguousarray(image.transpose(1, 0, 2)).transpose(1, 0, 2)
    assert np.array_equal(whole, resize_crop(turned, (3, 4, 20, 30), 16))


# -- views -----------------------------------------------------------------------------------------

def test_image_and_mask_move_together():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.permutation(64).reshape(8, 8), np.ones((20, 20))).astype(np.uint8)
    image = np.stack([mask * 3, mask * 2, 255 - mask], 2).astype(np.uint8)
    for crop in ('clipped', 'distorted_box'):
        view = AugmentedView(size=96, style='tensorflow', crop=crop)
        for n in range(10):
            sample = make_views([view, view], np.random.default_rng(n), image, mask, 4)
            for pixels, ids in zip(sample['image'], sample['mask'], strict=True):
                agree = np.abs(pixels[..., 1].astype(int) - 2 * ids.astype(int)) <= 2
                assert agree.mean() > 0.6, 'only pixels at borders may be mixed'


@pytest.mark.parametrize('reduction', [2, 4])
def test_a_reduced_image_gives_the_same_crops(reduction):
    ramp = np.mgrid[:601, :803]
    mask = (ramp[0] // 8 * 101 + ramp[1] // 8).astype(np.uint16)
    whole = np.stack([ramp[0] // 4, ramp[1] // 4, ramp[0] * 0], 2).astype(np.uint8)
    image = cv2.resize(whole, (-(-803 // reduction), -(-601 // reduction)),
                       interpolation=cv2.INTER_AREA)
    view = AugmentedView(size=48, area=(0.3, 1.0), style='tensorflow', reduced=True)
    assert view.reduction((0, 0, 200, 200)) == 4
    for n in range(10):
        drawn = draw_views([view], np.random.default_rng(n), 601, 803, 2)
        full, small = cut_views(drawn, whole, mask), cut_views(drawn, image, mask, reduction)
        one, two, ids = full['image'][0], small['image'][0], small['mask'][0]
        assert np.abs(one.astype(int) - two).max() <= 2 + reduction / 4
        assert np.abs(two[..., 0] // 2 - ids.astype(int) // 101).max() <= 1


def test_the_style_decides_what_is_not_given():
    plain, released = AugmentedView(size=32), AugmentedView(size=32, style='tensorflow')
    assert plain.reduction((0, 0, 400, 400)) == 8 and released.reduction((0, 0, 400, 400)) == 1
    rng = np.random.default_rng(0)
    boxes = np.array([released.draw(rng, 480, 1280)[0] for _ in range(200)])
    assert (boxes[:, 2] == 480).mean() > 0.2, 'sides are clipped to the image'
    with pytest.raises(UsageError, match="brightness_rule 'add' needs style='tensorflow'"):
        AugmentedView(size=32, jitter=dict(p=1.0, brightness_rule='add'))


@pytest.mark.parametrize('size, kernel', [(224, 23), (128, 13), (96, 9), (64, 7), (19, 1)])
def test_the_blurs_kernel_is_a_tenth_of_the_view(size, kernel):
    """As ``2 · int(size / 10 / 2) + 1`` of the releases, whether they divide with rest or not."""
    assert kernel == 2 * int(size / 10 / 2) + 1 == 2 * int(size // 10 / 2) + 1
    for style in draw.STYLES:
        view = AugmentedView(size=size, style=style, blur=dict(p=1.0, sigma=(0.1, 2.0)))
        assert view.draw(np.random.default_rng(0), 50, 50)[2][draw.KERNEL] == kernel
    given = AugmentedView(size=size, blur=dict(p=1.0, sigma=(0.1, 2.0), kernel=5))
    assert given.draw(np.random.default_rng(0), 50, 50)[2][draw.KERNEL] == 5


@pytest.mark.parametrize('config, crop, style', [
    ('byol_r50', clipped_crop, draw.HSV_ADDED), ('detcon_r50', clipped_crop, draw.HSV_ADDED),
    ('detcon_s_r50', clipped_crop, draw.HSV_ADDED),
    ('simclr_r50', distorted_box, draw.HSV_SCALED), ('moco_v2_r50', draw_crop, draw.BLENDED)])
def test_published_configs_have_the_style_of_their_authors(config, crop, style):
    for arguments in load_config(config).views:
        view = AugmentedView(**arguments)
        box, _, row = view.draw(np.random.default_rng(3), 480, 640)
        assert box == crop(np.random.default_rng(3), 480, 640, view.area, view.ratio)
        assert row[draw.STYLE] == style and row[draw.KERNEL] == 23
