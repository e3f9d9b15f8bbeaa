"""TensorFlow's style: photometry, crops and resizing against NumPy transcriptions of the released
formulas, and the figures that were measured on the releases."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_views as reference
import torch
from PIL import Image
from scipy import stats

from densessl.config import load_config
from densessl.data import photometric as ph
from densessl.data import photometric_draw as draw
from densessl.data.bicubic import resize_crop
from densessl.data.crops import clipped_crop, distorted_box, draw_crop
from densessl.data.find import find_images
from densessl.data.photometric_cpu import augment_and_normalize
from densessl.data.views import AugmentedView, cut_views, draw_views, make_views
from densessl.errors import UsageError

BYOL = dict(p=1.0, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
SIMCLR = dict(p=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2,
              brightness_rule='multiply')
PHOTOGRAPHS = Path(__file__).parents[3] / 'shared/data/imagenet_sample'
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def pictures(number, height=33, width=41, seed=0):
    """Noise, flat patches, few levels, gray: (B, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (number, height, width, 3), np.uint8)
    patches = rng.integers(0, 256, (number, 5, 6, 3), np.uint8)
    for i in range(0, number, 2):
        noise[i] = cv2.resize(patches[i], (width, height), interpolation=cv2.INTER_NEAREST)
    noise[1] %= 4
    noise[3] = noise[3, :, :, :1]
    return noise


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
    images = pictures(96)
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
    images, rows = pictures(4), drawn(4)
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
    images = pictures(4, *shape)
    rows = drawn(4, blur=dict(p=1.0, sigma=(0.1, 2.0), kernel=kernel))
    expected = np.stack([reference.augmented(image / 255, row)
                         for image, row in zip(images, rows, strict=True)])
    for out in by_both(images, rows):
        assert np.abs(out - expected).max() < 1e-6


def test_whole_chains_of_both_views_are_tensorflows():
    images = pictures(40)
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


# -- crops -----------------------------------------------------------------------------------------

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
    image = pictures(4, height + 2, width + 3)[1 + height % 2]
    out = resize_crop(image, (1, 2, height, width), 64)
    expected = reference.resized(image[1:1 + height, 2:2 + width], 64)
    difference = np.abs(out - expected)
    assert difference.max() < 0.5 + 2e-3 and difference.mean() < 0.26
    if height == 64:
        assert np.array_equal(out, image[1:65, 2:66])


def test_enlarging_is_pillows_which_has_the_same_kernel():
    # not up to black and white: Pillow rounds and clips between rows and columns
    image = 60 + pictures(4, 20, 31)[1] * 40
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
    image = pictures(4, 30, 40)[1]
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
    ('detcon_coco_r50', clipped_crop, draw.HSV_ADDED),
    ('detcon_s_r50', clipped_crop, draw.HSV_ADDED),
    ('detcon_s_coco_r50', clipped_crop, draw.HSV_ADDED),
    ('simclr_r50', distorted_box, draw.HSV_SCALED), ('moco_v2_r50', draw_crop, draw.BLENDED)])
def test_published_configs_have_the_style_of_their_authors(config, crop, style):
    for arguments in load_config(config).views:
        view = AugmentedView(**arguments)
        box, _, row = view.draw(np.random.default_rng(3), 480, 640)
        assert box == crop(np.random.default_rng(3), 480, 640, view.area, view.ratio)
        assert row[draw.STYLE] == style and row[draw.KERNEL] == 23
