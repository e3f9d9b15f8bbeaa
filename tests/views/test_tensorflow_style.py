"""TensorFlow's style: photometry, crops and resizing against NumPy transcriptions of the released
formulas, and the figures that were measured on the releases."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_views as reference
import torch
from scipy import stats

from densessl.images.find import find_images
from densessl.views import photometry as ph
from densessl.views import photometry_draw as draw
from densessl.views.bicubic import resize_crop
from densessl.views.crops import clipped_crop
from densessl.views.photometry_cpu import augment_and_normalize

BYOL = dict(p=1.0, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
SIMCLR = dict(p=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2,
              brightness_rule='multiply')
PHOTOGRAPHS = Path(__file__).parents[3] / 'shared/data/imagenet_sample'
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def by_both(images, rows):
    """What the compiled kernel and PyTorch make of (B, H, W, 3) uint8, (B, H, W, 3) in 0 … 1."""
    rows = torch.from_numpy(rows)
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    compiled = augment_and_normalize(torch.from_numpy(images), rows, torch.zeros(3), torch.ones(3))
    return [out.permute(0, 2, 3, 1).numpy() for out in (compiled, ph.augment(floats, rows))]


def drawn(number, seed=0, **arguments):
    rng = np.random.default_rng(seed)
    return np.stack([draw.parameters(rng, style='tensorflow', **arguments)
                     for _ in range(number)])


# -- photometry ------------------------------------------------------------------------------------

@pytest.mark.parametrize('jitter', [BYOL, SIMCLR], ids=['byol', 'simclr'])
def test_jitter_in_each_of_the_24_orders_is_tensorflows(jitter):
    images = reference.pictures(96)
    rows = drawn(96, jitter=jitter)
    rows[:, draw.ORDER] = np.arange(96) % 24
    expected = np.stack([reference.augmented(image / 255, row)
                         for image, row in zip(images, rows, strict=True)])
    compiled, by_torch = by_both(images, rows)
    assert np.abs(compiled - expected).max() < 2e-6
    assert np.abs(by_torch - expected).max() < 2e-6
    assert np.abs(compiled - by_torch).max() < 2e-6
    assert np.abs(expected - images / 255).mean() > 0.05, 'nothing was changed'


@pytest.mark.parametrize('name, values', [
    ('brightness', (-0.4, -0.1, 0.0, 0.3)), ('contrast', (0.2, 0.9, 1.0, 1.8)),
    ('saturation', (0.0, 0.8, 1.0, 1.8)), ('hue', (-0.5, -0.1, 0.0, 0.2)),
    ('gray', (1.0, 1.0, 1.0, 2.0)), ('sigma', (0.1, 0.7, 1.3, 2.0)),
    ('solarize', (0.0, 0.25, 0.5, 1.0))])
def test_each_operation_alone_is_tensorflows(name, values):
    images, rows = reference.pictures(4), drawn(4)
    rows[:, draw.PARAMETERS.index(name)] = values
    if name in ('brightness', 'contrast', 'saturation', 'hue'):
        rows[:, draw.ORDER] = 7
    expected = np.stack([reference.augmented(image / 255, row)
                         for image, row in zip(images, rows, strict=True)])
    for out in by_both(images, rows):
        assert np.abs(out - expected).max() < 1e-6


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (5, 9), (24, 24)])
@pytest.mark.parametrize('kernel', [1, 3, 23])
def test_blur_has_zeros_beyond_the_border(shape, kernel):
    """The kernel is as wide as it is on images that are smaller than it."""
    images = reference.pictures(4, *shape)
    rows = drawn(4, blur=dict(p=1.0, sigma=(0.1, 2.0), kernel=kernel))
    expected = np.stack([reference.augmented(image / 255, row)
                         for image, row in zip(images, rows, strict=True)])
    for out in by_both(images, rows):
        assert np.abs(out - expected).max() < 1e-6


def test_whole_chains_of_both_views_are_tensorflows():
    images = reference.pictures(40)
    rows = np.concatenate([drawn(20, seed, jitter={**BYOL, 'p': 0.8}, gray=0.2,
                                 blur=dict(p=p, sigma=(0.1, 2.0), kernel=kernel),
                                 solarize=dict(p=0.2))
                           for seed, (p, kernel) in enumerate([(1.0, 23), (0.5, 5)])])
    rows[:, draw.SOLARIZE] += 1e-4      # no pixel is as near to the threshold as float32 rounds
    expected = np.stack([reference.augmented(image / 255, row)
                         for image, row in zip(images, rows, strict=True)])
    for out in by_both(images, rows):
        assert (np.abs(out - expected) > 2e-6).mean() < 1e-5


def test_parameters_are_drawn_as_released():
    rows = drawn(4000, jitter=BYOL)
    for column, low, high in ((draw.BRIGHTNESS, -0.4, 0.4), (draw.CONTRAST, 0.6, 1.4),
                              (draw.SATURATION, 0.8, 1.2), (draw.HUE, -0.1, 0.1)):
        uniform = stats.uniform(low, high - low).cdf
        assert stats.kstest(rows[:, column], uniform).statistic < 0.026      # 1 % significant
    assert (rows[:, draw.STYLE] == draw.HSV_ADDED).all()
    factors = drawn(4000, jitter=SIMCLR)
    assert (factors[:, draw.STYLE] == draw.HSV_SCALED).all()
    assert stats.kstest(factors[:, draw.BRIGHTNESS], stats.uniform(0.2, 1.6).cdf).statistic < 0.026


def test_both_styles_take_the_same_numbers():
    """The style changes formulas: what else a sample draws stays what it was."""
    arguments = dict(jitter=BYOL, gray=0.2, blur=dict(p=0.5, sigma=(0.1, 2.0)))
    states = []
    for style in draw.STYLES:
        rng = np.random.default_rng(5)
        row = draw.parameters(rng, style=style, **arguments)
        states.append((row[1:9].tolist(), rng.random()))
    assert states[0] == states[1]


GOLDEN = [1.0090793371200562, 1.327141284942627, 0.8247042894363403, 0.07123693823814392, 8, 0,
          1.8267526626586914, 2, 23, draw.BLENDED]     # drawn before there were styles


def test_torchvisions_style_draws_what_it_always_drew():
    rng = np.random.default_rng((0, 1, 7))
    row = draw.parameters(rng, jitter=dict(BYOL, p=0.8), gray=0.2, solarize=dict(p=0.2),
                          blur=dict(p=0.5, sigma=(0.1, 2.0)))
    np.testing.assert_allclose(row, GOLDEN, rtol=1e-6)


def change_by_brightness(images, style, seed=0):
    """Mean absolute change of pixels by the jitter's brightness of 0.4 alone."""
    rng = np.random.default_rng(seed)
    rows = np.stack([draw.parameters(rng, style=style, jitter=dict(p=1.0, brightness=0.4))
                     for _ in images])
    compiled, _ = by_both(images, rows)
    return np.abs(compiled - images / 255).mean((1, 2, 3))


def test_change_by_brightness_of_evenly_distributed_pixels():
    """Its expectation for pixels of U[0, 1] is 0.08970 by a factor of U[0.6, 1.4] and
    0.17333 by adding U[−0.4, 0.4]: integrals of |clip(f·x) − x| and of |clip(x + d) − x|."""
    images = np.random.default_rng(1).integers(0, 256, (1500, 16, 16, 3), np.uint8)
    factor = 0.5 * 0.1 + 0.5 * 0.5 * (1 - np.log(1.4) / 0.4)
    for style, expected in (('torchvision', factor), ('tensorflow', 0.2 - 0.16 / 6)):
        changes = change_by_brightness(images, style)
        error = changes.std() / len(changes) ** 0.5
        assert abs(changes.mean() - expected) < 4 * error + 1e-4, style


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason='needs the shared data (imagenet_sample)')
def test_change_by_brightness_of_photographs():
    """Measured on the released code: 0.079 by torchvision's brightness, 0.178 by theirs."""
    files = find_images(str(PHOTOGRAPHS))
    images = np.stack([cv2.resize(files.read(i), (64, 64), interpolation=cv2.INTER_NEAREST)
                       for i in range(0, len(files), 3)])
    for style, expected in (('torchvision', 0.079), ('tensorflow', 0.178)):
        changes = change_by_brightness(images, style)
        error = changes.std() / len(changes) ** 0.5
        assert abs(changes.mean() - expected) < 4 * error, style


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason='needs the shared data (imagenet_sample)')
def test_what_rounding_a_resized_photograph_costs():
    """A quarter of a level in the mean; a = −0.75 is another picture."""
    files, rng, ours, opencv = find_images(str(PHOTOGRAPHS)), np.random.default_rng(0), [], []
    for i in range(0, 100, 10):
        image = files.read(i)
        top, left, h, w = box = clipped_crop(rng, *image.shape[:2], AREA, RATIO)
        crop = image[top:top + h, left:left + w]
        exact = reference.resized(crop, 224)
        ours.append(np.abs(resize_crop(image, box, 224) - exact).mean())
        theirs = cv2.resize(crop, (224, 224), interpolation=cv2.INTER_CUBIC)
        opencv.append(np.abs(theirs - exact).mean())
    assert np.mean(ours) < 0.26 and np.mean(opencv) > 2 * np.mean(ours)
