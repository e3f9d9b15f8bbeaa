"""Differences between probed backbones, with intervals."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from densessl.labels.segmentation import Confusion
from densessl.probes.differences import differences, paired_difference, score, words


def maps(seed, images=40, classes=3, wrong=0.3):
    """Predictions of label maps that are the same for every seed, and what a confusion counts."""
    truth = np.random.default_rng(0).integers(0, classes, (images, 8, 8))
    rng = np.random.default_rng(seed)
    found = np.where(rng.random(truth.shape) < wrong, rng.integers(0, classes, truth.shape), truth)
    confusion = Confusion(classes)
    for one, label in zip(found, truth, strict=True):
        confusion.add(torch.from_numpy(one), torch.from_numpy(label))
    return confusion, torch.stack(confusion.by_image).numpy()


def test_drawn_once_each_the_score_is_the_probes():
    confusion, counts = maps(1)
    assert score(np.ones((1, 40)), counts)[0] == pytest.approx(confusion.scores()['mIoU'])


def test_a_resample_scores_as_those_images_together():
    _, counts = maps(1)
    drawn = np.array([3, 3, 7, 20])
    weights = np.bincount(drawn, minlength=40)[None].astype(float)
    both, true, given = counts[drawn].sum(0)
    assert score(weights, counts)[0] == pytest.approx(100 * np.mean(both / (true + given - both)))


def test_a_class_that_was_not_drawn_is_left_out():
    counts = np.zeros((2, 3, 2))
    counts[0, :, 0] = 5       # class 0 in the first image, class 1 in the second
    counts[1, :, 1] = 4, 4, 8
    np.testing.assert_allclose(score(np.array([[1., 0.], [0., 1.]]), counts), [100, 50])


def test_the_interval_covers_the_difference_and_tells_clear_ones():
    (_, ours), (_, theirs) = maps(1, wrong=0.2), maps(2, wrong=0.5)
    difference, low, high = paired_difference(ours, theirs)
    assert 0 < low < difference < high and difference > 5
    assert paired_difference(theirs, ours) == pytest.approx((-difference, -high, -low))
    assert paired_difference(ours, ours) == (0, 0, 0)


def test_accuracy_has_the_interval_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(400) < 0.8, rng.random(400) < 0.7
    difference, low, high = paired_difference(ours, theirs)
    apart = 100 * (ours.astype(float) - theirs)
    half = 1.96 * apart.std() / 20
    assert difference == pytest.approx(apart.mean())
    assert (low, high) == pytest.approx((apart.mean() - half, apart.mean() + half), abs=0.8)


def test_the_lines_are_against_the_first():
    lines = differences([{'backbone': name, 'scores': {'top1': 0.0}} for name in 'abc'],
                        [np.ones(50, bool), np.arange(50) % 2 == 0, np.ones(50, bool)])
    assert [(line['backbone'], line['against']) for line in lines] == [('b', 'a'), ('c', 'a')]
    assert words(lines[0]).startswith('b against a: top1 −50.00 (95 % interval −') and (
        words(lines[0]).endswith(': a difference)'))
    assert words(lines[1]) == (
        'c against a: top1 +0.00 (95 % interval +0.00 to +0.00: no difference is shown)')
