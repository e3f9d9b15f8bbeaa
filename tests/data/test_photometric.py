"""Each photometric operation against torchvision's on the same parameters; the distribution of
each drawn parameter against what the recipe says."""
from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF

from densessl.data import photometric as ph

BYOL = dict(jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.2,
            blur=dict(p=0.5, sigma=(0.1, 2.0)), solarize=dict(p=0.2, threshold=0.5))


@pytest.fixture
def images():
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 6, 6, generator=g)
    images = torch.nn.functional.interpolate(coarse, (40, 40), mode='bilinear')
    images[3, :, :10] = 0.3   # gray pixels: their hue is undefined
    return images.clamp(0, 1)


@pytest.mark.parametrize('ours, theirs, values', [
    (ph.brightness, TF.adjust_brightness, [0.6, 0.9, 1.1, 1.4]),
    (ph.contrast, TF.adjust_contrast, [0.6, 0.9, 1.1, 1.4]),
    (ph.saturation, TF.adjust_saturation, [0.8, 0.0, 1.1, 1.2]),
    (ph.hue, TF.adjust_hue, [-0.1, 0.0, 0.07, 0.45]),
    (lambda x, s: ph.blur(x, s, 23),
     lambda x, s: TF.gaussian_blur(x, [23, 23], [s, s]), [0.1, 0.7, 1.3, 2.0]),
    (ph.solarize, TF.solarize, [0.2, 0.5, 0.5, 0.9]),
], ids=['brightness', 'contrast', 'saturation', 'hue', 'blur', 'solarize'])
def test_equals_torchvision(images, ours, theirs, values):
    out = ours(images.clone(), torch.tensor(values))
    for image, value, result in zip(images, values, out, strict=True):
        torch.testing.assert_close(result, theirs(image, value), atol=2e-4, rtol=0)


def test_grayscale_equals_torchvision(images):
    torch.testing.assert_close(ph.grayscale(images), TF.rgb_to_grayscale(images, 3),
                               atol=1e-4, rtol=0)


def test_batch_equals_one_by_one(images):
    """A sample's result depends on its own parameters alone, in the order that was drawn."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(np.stack([ph.parameters(rng, **BYOL) for _ in range(4)]))
    together = ph.augment(images.clone(), rows)
    for i in range(4):
        torch.testing.assert_close(ph.augment(images[i:i + 1].clone(), rows[i:i + 1]),
                                   together[i:i + 1], atol=1e-6, rtol=0)


def test_augment_applies_the_operations_in_the_drawn_order(images):
    row = torch.tensor([[1.3, 0.7, 1.2, 0.05, 0.0, 1.0, 1.0, 0.5]])
    for order, sequence in enumerate(ph.ORDERS):
        row[0, ph.ORDER] = order
        expected = images[:1]
        for column in sequence:
            expected = ph.JITTER[column](expected, row[:, column])
        expected = ph.solarize(ph.blur(ph.grayscale(expected), row[:, ph.SIGMA], 23),
                               row[:, ph.SOLARIZE])
        torch.testing.assert_close(ph.augment(images[:1].clone(), row), expected)


def test_identity_leaves_pixels_alone(images):
    row = torch.from_numpy(ph.parameters(np.random.default_rng(0))).repeat(4, 1)
    assert torch.equal(ph.augment(images.clone(), row), images)


def test_gray_first_keeps_later_jitter(images):
    rng = np.random.default_rng(0)
    row = ph.parameters(rng, gray=1.0, gray_first=True)
    assert row[ph.GRAY] == ph.GRAY_BEFORE
    assert ph.parameters(rng, gray=1.0)[ph.GRAY] == ph.GRAY_AFTER


def test_distribution_of_the_parameters():
    rng = np.random.default_rng(0)
    rows = np.stack([ph.parameters(rng, **BYOL) for _ in range(20_000)])
    jittered = rows[:, ph.ORDER] != ph.NO_JITTER
    assert jittered.mean() == pytest.approx(0.8, abs=0.01)
    for column, low, high in ((ph.BRIGHTNESS, 0.6, 1.4), (ph.CONTRAST, 0.6, 1.4),
                              (ph.SATURATION, 0.8, 1.2), (ph.HUE, -0.1, 0.1)):
        values = rows[jittered, column]
        quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        expected = low + (high - low) * np.array([0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quantiles, expected, atol=0.02 * (high - low))
    assert np.bincount(rows[jittered, ph.ORDER].astype(int), minlength=24).min() > 550   # of ~667
    assert (rows[:, ph.GRAY] > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert (rows[:, ph.SIGMA] > 0).mean() == pytest.approx(0.5, abs=0.01)
    assert (rows[:, ph.SOLARIZE] <= 1).mean() == pytest.approx(0.2, abs=0.01)


def test_preprocessor_normalizes_outside_autocast_and_autograd():
    batch = dict(image=[torch.full((2, 8, 8, 3), 128, dtype=torch.uint8)],
                 photometric=[torch.from_numpy(
                     ph.parameters(np.random.default_rng(0))).repeat(2, 1)],
                 uniforms=[torch.rand(2, 4)], mask=[torch.zeros(2, 8, 8, dtype=torch.int32)],
                 regions=1)
    preprocess = ph.ViewPreprocessor(mean=(128, 0, 0), std=(1, 128, 64))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        view = preprocess(batch, True)['views'][0]
    assert view.image.dtype == torch.float32 and not view.image.requires_grad
    torch.testing.assert_close(view.image[0, :, 0, 0], torch.tensor([0.0, 1.0, 2.0]),
                               atol=1e-5, rtol=0)
    assert view.regions == 1 and view.mask.shape == (2, 8, 8) and view.target is None
