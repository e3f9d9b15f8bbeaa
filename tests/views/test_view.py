"""Views: crops by distribution, image and mask together; positions by seed alone."""
from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
from scipy import stats

from densessl.errors import UsageError
from densessl.views.crops import draw_crop
from densessl.views.sampler import PositionSampler
from densessl.views.view import AugmentedView, cut_views, draw_views, make_views


def test_crop_area_and_ratio_follow_the_recipe():
    rng = np.random.default_rng(0)
    boxes = np.array([draw_crop(rng, 1000, 1000, (0.08, 1.0), (3 / 4, 4 / 3))
                      for _ in range(5000)])
    area, ratio = boxes[:, 2] * boxes[:, 3] / 1e6, boxes[:, 3] / boxes[:, 2]
    assert 0.079 < area.min() and area.max() <= 1
    assert 0.74 < ratio.min() and ratio.max() < 1.35
    # low areas are never refused: their share is that of a uniform draw, up to refused large ones
    assert 0.2 < (area < 0.3).mean() < 0.3
    assert abs(np.log(ratio).mean()) < 0.01
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 0] + boxes[:, 2] <= 1000).all()


@pytest.mark.parametrize('height, width', [(1, 1), (20000, 10), (10, 20000), (3, 5)])
def test_crop_of_odd_sizes_stays_inside(height, width):
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, left, h, w = draw_crop(rng, height, width, (0.08, 1.0), (3 / 4, 4 / 3))
        assert 0 <= top and top + h <= height and h >= 1
        assert 0 <= left and left + w <= width and w >= 1


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_image_and_mask_move_together(dtype):
    """Regions of flat color: after any crop and flip, a pixel's color tells its region."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.permutation(64).reshape(8, 8), np.ones((20, 20))).astype(dtype)
    image = np.stack([mask * 3, mask * 2, 255 - mask], 2).astype(np.uint8)
    view = AugmentedView(size=96, interpolation='bilinear')
    for n in range(20):
        sample = make_views([view, view], np.random.default_rng(n), image, mask, 4)
        for crop, ids in zip(sample['image'], sample['mask'], strict=True):
            assert crop.shape == (96, 96, 3) and crop.dtype == np.uint8
            assert ids.shape == (96, 96) and ids.dtype == dtype
            agree = np.abs(crop[..., 1].astype(int) - 2 * ids.astype(int)) <= 2
            assert agree.mean() > 0.7, 'only pixels at borders may be mixed'


def test_more_regions_than_sixteen_bits_hold():
    mask = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    view = AugmentedView(size=300, area=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    image = np.zeros((300, 300, 3), np.uint8)
    sample = make_views([view], np.random.default_rng(0), image, mask, 1)
    assert np.array_equal(sample['mask'][0], mask)


def test_views_are_a_function_of_the_generator_alone():
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    view = AugmentedView(size=32, jitter=dict(p=0.8, brightness=0.4), gray=0.2)
    first, again, other = (make_views([view, view], np.random.default_rng((7, n)), image, None, 8)
                           for n in (3, 3, 4))
    assert all(np.array_equal(a, b) for key in first for a, b in
               zip(first[key], again[key], strict=True))
    assert not np.array_equal(first['image'][0], other['image'][0])
    assert not np.array_equal(first['image'][0], first['image'][1])


def test_crops_are_torchvisions():
    """The crops of ``RandomResizedCrop``, by the distribution of area, ratio and place."""
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    rng = np.random.default_rng(0)
    ours = np.array([draw_crop(rng, 375, 500, scale, ratio) for _ in range(4000)])
    torch.manual_seed(0)
    picture = torch.empty(1, 375, 500)
    theirs = np.array([T.RandomResizedCrop.get_params(picture, scale, ratio)
                       for _ in range(4000)])
    for of in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0],
               lambda b: b[:, 1]):
        assert stats.ks_2samp(of(ours), of(theirs)).statistic < 0.04   # 0.035 is 1 % significant


def test_reduction_leaves_enough_for_every_crop():
    view = AugmentedView(size=100)
    assert [view.reduction((0, 0, h, w)) for h, w in
            [(99, 900), (199, 300), (200, 300), (399, 400), (400, 400), (2000, 801), (9999, 9999)]
            ] == [1, 1, 2, 2, 4, 8, 8]
    assert AugmentedView(size=100, reduced=False).reduction((0, 0, 800, 800)) == 1

    class Patches(AugmentedView):
        def draw(self, rng, height, width):
            return (0, 0, height, width), False, super().draw(rng, height, width)[2]
    assert Patches(size=100).reduction((0, 0, 800, 800)) == 1


@pytest.mark.parametrize('reduction', [2, 4])
def test_reduced_image_and_whole_mask_move_together(reduction):
    """From a smaller picture the same crops come, to within a pixel of it, and the mask with
    them to the pixel."""
    ramp = np.mgrid[:601, :803]
    mask = (ramp[0] // 8 * 101 + ramp[1] // 8).astype(np.uint16)
    whole = np.stack([ramp[0] // 4, ramp[1] // 4, ramp[0] * 0], 2).astype(np.uint8)
    image = cv2.resize(whole, (-(-803 // reduction), -(-601 // reduction)),
                       interpolation=cv2.INTER_AREA)
    view = AugmentedView(size=48, area=(0.3, 1.0), interpolation='bilinear')
    for n in range(10):
        drawn = draw_views([view, view], np.random.default_rng(n), 601, 803, 2)
        full, small = cut_views(drawn, whole, mask), cut_views(drawn, image, mask, reduction)
        for one, two, ids in zip(full['image'], small['image'], small['mask'], strict=True):
            assert np.abs(one.astype(int) - two).max() <= 2 + reduction / 4
            assert np.abs(two[..., 0] // 2 - ids.astype(int) // 101).max() <= 1
            assert np.abs(two[..., 1] // 2 - ids.astype(int) % 101).max() <= 1


@pytest.mark.parametrize('wrong, word', [(dict(interpolation='cubic'), 'bicubic'),
                                         (dict(area=(0.0, 1.0)), 'area'), (dict(size=0), 'size')])
def test_bad_arguments_are_named(wrong, word):
    with pytest.raises(UsageError, match=word):
        AugmentedView(**{'size': 32, **wrong})


def take(sampler, number):
    return list(itertools.islice(iter(sampler), number))


def test_an_epoch_shows_every_image_once():
    drawn = take(PositionSampler(10, 4, seed=1), 20)
    assert [n for n, _ in drawn] == list(range(20))
    assert sorted(i for _, i in drawn[:10]) == sorted(i for _, i in drawn[10:]) == list(range(10))
    assert [i for _, i in drawn[:10]] != [i for _, i in drawn[10:]]


def test_ranks_share_each_global_batch():
    whole = take(PositionSampler(10, 6, seed=3), 30)
    ranks = [take(PositionSampler(10, 2, seed=3, rank=r, world_size=3), 10) for r in range(3)]
    joined = [position for k in range(5) for part in ranks for position in part[2 * k:2 * k + 2]]
    assert joined == whole


@pytest.mark.parametrize('skipped', [0, 4, 5, 12, 100])
def test_skipping_equals_taking(skipped):
    sampler = PositionSampler(7, 4, seed=2, rank=1, world_size=2)
    everything = take(sampler, skipped + 10)
    sampler.skip(skipped)
    assert take(sampler, 10) == everything[skipped:]
