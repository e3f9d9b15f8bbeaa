"""Each photometric operation against torchvision's on the same parameters; the distribution of
each drawn parameter against what the recipe says."""
from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from scipy import stats

from densessl.views import photometry as ph
from densessl.views import photometry_draw as draw
from densessl.views.photometry_cpu import augment_and_normalize

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
    rows = torch.from_numpy(np.stack([draw.parameters(rng, **BYOL) for _ in range(4)]))
    together = ph.augment(images.clone(), rows)
    for i in range(4):
        torch.testing.assert_close(ph.augment(images[i:i + 1].clone(), rows[i:i + 1]),
                                   together[i:i + 1], atol=1e-6, rtol=0)


def test_augment_applies_the_operations_in_the_drawn_order(images):
    row = torch.tensor([[1.3, 0.7, 1.2, 0.05, 0.0, 1.0, 1.0, 0.5, 23, ph.BLENDED]])
    for order, sequence in enumerate(ph.ORDERS):
        row[0, ph.ORDER] = order
        expected = images[:1]
        for column in sequence:
            expected = ph.JITTER[column](expected, row[:, column])
        expected = ph.solarize(ph.blur(ph.grayscale(expected), row[:, ph.SIGMA], 23),
                               row[:, ph.SOLARIZE])
        torch.testing.assert_close(ph.augment(images[:1].clone(), row), expected)


def test_identity_leaves_pixels_alone(images):
    row = torch.from_numpy(draw.parameters(np.random.default_rng(0))).repeat(4, 1)
    assert torch.equal(ph.augment(images.clone(), row), images)


def test_gray_first_keeps_later_jitter(images):
    rng = np.random.default_rng(0)
    row = draw.parameters(rng, gray=1.0, gray_first=True)
    assert row[ph.GRAY] == ph.GRAY_BEFORE
    assert draw.parameters(rng, gray=1.0)[ph.GRAY] == ph.GRAY_AFTER


def test_distribution_of_the_parameters():
    rng = np.random.default_rng(0)
    rows = np.stack([draw.parameters(rng, **BYOL) for _ in range(20_000)])
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
                     draw.parameters(np.random.default_rng(0))).repeat(2, 1)],
                 uniforms=[torch.rand(2, 4)], mask=[torch.zeros(2, 8, 8, dtype=torch.int32)],
                 regions=1)
    preprocess = ph.ViewPreprocessor(mean=(128, 0, 0), std=(1, 128, 64))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        view = preprocess(batch, True)['views'][0]
    assert view.image.dtype == torch.float32 and not view.image.requires_grad
    torch.testing.assert_close(view.image[0, :, 0, 0], torch.tensor([0.0, 1.0, 2.0]),
                               atol=1e-5, rtol=0)
    assert view.regions == 1 and view.mask.shape == (2, 8, 8) and view.target is None


# -- on the CPU, compiled --------------------------------------------------------------------------

CHAINS = dict(
    byol=BYOL,
    all_of_it=dict(jitter=dict(p=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5),
                   gray=0.3, blur=dict(p=1.0, sigma=(0.1, 2.0)), solarize=dict(p=0.5)),
    gray_first=dict(jitter=dict(p=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
                    gray=0.5, gray_first=True))


def pixels(images):
    """(B, 3, H, W) in [0, 1] → (B, H, W, 3) uint8, and as floats what those pixels are."""
    whole = (images * 255).round()
    return whole.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), whole / 255


def compiled(whole, rows):
    return augment_and_normalize(whole, rows, torch.zeros(3), torch.ones(3))


def drawn(chain, number, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([draw.parameters(rng, **chain) for _ in range(number)]))


@pytest.mark.parametrize('chain', CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize('shape', [(40, 40), (33, 57), (5, 9), (1, 1)])
def test_compiled_equals_torch(images, chain, shape):
    whole, floats = pixels(torch.nn.functional.interpolate(images, shape).repeat(12, 1, 1, 1))
    rows = drawn(chain, len(whole))
    expected, got = ph.augment(floats, rows), compiled(whole, rows)
    assert got.shape == expected.shape and got.is_contiguous(memory_format=torch.channels_last)
    difference = (got - expected).abs()
    # a pixel at the threshold of solarization may fall on the other side of it
    assert difference.mean() < 1e-5 and (difference > 1e-4).float().mean() < 1e-4


def test_compiled_normalizes(images):
    whole, floats = pixels(images)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    expected = (floats - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    row = torch.from_numpy(draw.parameters(np.random.default_rng(0))).repeat(4, 1)
    torch.testing.assert_close(augment_and_normalize(whole, row, mean, std), expected,
                               atol=1e-5, rtol=0)


def test_compiled_depends_on_no_other_view_and_no_thread(images):
    whole, _ = pixels(images.repeat(4, 1, 1, 1))
    rows, threads = drawn(BYOL, 16), torch.get_num_threads()
    results = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            results.append(compiled(whole, rows))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)
    for i in range(16):
        assert torch.equal(compiled(whole[i:i + 1], rows[i:i + 1])[0], results[0][i])
    assert compiled(whole[:0], rows[:0]).shape == (0, 3, 40, 40)


THEIRS = {
    'brightness': (ph.BRIGHTNESS, TF.adjust_brightness, (0.2, 1.8)),
    'contrast': (ph.CONTRAST, TF.adjust_contrast, (0.2, 1.8)),
    'saturation': (ph.SATURATION, TF.adjust_saturation, (0.2, 1.8)),
    'hue': (ph.HUE, TF.adjust_hue, (-0.5, 0.5)),
    'gray': (ph.GRAY, lambda x, _: TF.rgb_to_grayscale(x, 3), (1, 1)),
    'blur': (ph.SIGMA, lambda x, s: TF.gaussian_blur(x, [23, 23], [s, s]), (0.1, 2.0)),
    'solarize': (ph.SOLARIZE, lambda x, t: TF.solarize(x, t), (0.1, 0.9)),
}


def by_torchvision(image, row):
    """(3, H, W), uint8 or float, through torchvision's operations, one after the other."""
    ranges = 255 if image.dtype == torch.uint8 else 1
    names = [draw.PARAMETERS[c] for c in ph.ORDERS[int(row[ph.ORDER])]
             ] if row[ph.ORDER] != ph.NO_JITTER else []
    for name in (*names, 'gray', 'blur', 'solarize'):
        column, operation, _ = THEIRS[name]
        value = row[column].item()
        if (name in ('gray', 'blur') and not value) or (name == 'solarize' and value > 1):
            continue
        image = operation(image, value * ranges if name == 'solarize' else value)
    return image


FINGERPRINT = """
import hashlib, numpy, torch
from densessl.views import photometry_cpu as cpu
from densessl.views import photometry_cpu_kernel as kernel
from densessl.views.photometry_draw import parameters
rng = numpy.random.default_rng(0)
chain = dict(jitter=dict(p=1, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), gray=0.2,
             blur=dict(p=1, sigma=(0.1, 2.0)), solarize=dict(p=0.3))
rows = torch.from_numpy(numpy.stack([parameters(rng, **chain) for _ in range(8)]))
images = torch.from_numpy(rng.integers(0, 256, (8, 96, 96, 3), numpy.uint8))
views = cpu.augment_and_normalize(images, rows, torch.full((3,), 0.45), torch.full((3,), 0.22))
print(sum(kernel.augment_batch.stats.cache_hits.values()),
      hashlib.sha256(views.contiguous().numpy().tobytes()).hexdigest())
"""


def test_the_process_that_compiles_gets_the_bits_of_those_that_load(tmp_path):
    environment = {**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)}
    (none, compiled), (one, loaded) = (
        subprocess.run([sys.executable, '-c', FINGERPRINT], env=environment, check=True,
                       capture_output=True, text=True).stdout.split() for _ in range(2))
    assert (none, one) == ('0', '1') and compiled == loaded


@pytest.mark.parametrize('name', THEIRS)
def test_compiled_operation_is_torchvisions(images, name):
    """On uint8 pixels, as published pipelines compute; theirs rounds after the operation."""
    column, _, (low, high) = THEIRS[name]
    whole, _ = pixels(images.repeat(5, 1, 1, 1))
    rows = torch.from_numpy(draw.parameters(np.random.default_rng(0))).repeat(20, 1)
    rows[:, column] = torch.linspace(low, high, 20)
    rows[:, ph.ORDER] = 0 if column in ph.JITTER else ph.NO_JITTER
    for image, row, result in zip(whole, rows, compiled(whole, rows), strict=True):
        theirs = by_torchvision(image.permute(2, 0, 1), row).float() / 255
        assert (result - theirs).abs().mean() < 1.5 / 255


@pytest.mark.parametrize('chain', [BYOL, CHAINS['all_of_it']], ids=['byol', 'all_of_it'])
def test_compiled_chain_is_torchvisions(images, chain):
    """Whole chains on floats, where both are exact."""
    whole, floats = pixels(images.repeat(10, 1, 1, 1))
    rows = drawn(chain, 40, seed=1)
    for image, row, result in zip(floats, rows, compiled(whole, rows), strict=True):
        assert (result - by_torchvision(image, row)).abs().mean() < 1.5 / 255


def test_parameters_are_drawn_as_torchvision_draws_them():
    """Two-sample Kolmogorov–Smirnov distances; 0.04 is a chance of 0.3 % with 4000 draws each."""
    strengths = dict(brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    rng = np.random.default_rng(0)
    rows = np.stack([draw.parameters(rng, jitter=dict(p=1.0, **strengths),
                                   blur=dict(p=1.0, sigma=(0.1, 2.0))) for _ in range(4000)])
    torch.manual_seed(0)
    jitter, blur = T.ColorJitter(**strengths), T.GaussianBlur(23, (0.1, 2.0))
    theirs = [jitter.make_params([]) for _ in range(4000)]
    for i, name in enumerate(('brightness', 'contrast', 'saturation', 'hue')):
        values = [draw[f'{name}_factor'] for draw in theirs]
        assert stats.ks_2samp(rows[:, draw.PARAMETERS.index(name)], values).statistic < 0.04, name
        for turn in range(4):     # how often an operation comes first, second, …
            ours = np.mean([ph.ORDERS[int(order)][turn] == i for order in rows[:, ph.ORDER]])
            other = np.mean([int(draw['fn_idx'][turn]) == i for draw in theirs])
            assert abs(ours - other) < 0.04
    sigmas = [blur.make_params([])['sigma'][0] for _ in range(4000)]
    assert stats.ks_2samp(rows[:, ph.SIGMA], sigmas).statistic < 0.04


def test_views_of_several_images_share_their_parameters(images):
    whole, _ = pixels(images)
    rows = drawn(BYOL, 2)
    got = ph.ViewPreprocessor().photometry(whole.unflatten(0, (2, 2)), rows)
    expected = ph.ViewPreprocessor().photometry(whole, rows[[0, 0, 1, 1]])
    assert got.shape == (2, 2, 3, 40, 40) and torch.equal(got.flatten(0, 1), expected)


def test_off_the_cpu_torch_does_the_same(images):
    """The path of other devices, of which PyTorch's stand-in shows the shape and the layout."""
    there = ph.ViewPreprocessor().to('meta')
    out = there.photometry(pixels(images)[0].to('meta'), drawn({}, 4))
    assert out.shape == (4, 3, 40, 40) and out.is_contiguous(memory_format=torch.channels_last)
