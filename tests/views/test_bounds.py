"""Every value of a view and of normalization is refused in one line, or it runs: on images of any
shape, without a crash in compiled code, with finite results."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from densessl.config import load_config
from densessl.errors import UsageError
from densessl.training.config_check import check_config
from densessl.training.decisive_settings import as_views_have_it, changes, settings_of_views
from densessl.views import photometry as ph
from densessl.views import photometry_draw as draw
from densessl.views.collate import collate
from densessl.views.photometry_cpu import augment_and_normalize
from densessl.views.view import AugmentedView, make_views

NAN, INF = math.nan, math.inf
ODD = st.sampled_from([
    -1, 0, 1, 2, 3, 0.5, -0.5, 0.0, -0.0, 1.0, NAN, INF, -INF, 1e12, 10 ** 5000, 1e-320, 1e308,
    True, False, None, 'big', '', '1', (), [], [1], (0, 0), (1, 1), (2, 1), (0.1, 2.0), (NAN, NAN),
    (0, INF), (-1, 1), (1e-320, 1e308), (1e12, 1e12), [True, True], ['a', 'b'], (0.1, 0.2, 0.3),
    {}, {'p': 1}, 4097, 1 + 2j, b'x', np.float32(0.5), np.int64(3)])
SHARE = st.floats(0, 1)


def pairs(low, high):
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted)


JITTER = st.fixed_dictionaries({'p': SHARE}, optional=dict(
    brightness=st.floats(0, 1), contrast=st.floats(0, 10), saturation=st.floats(0, 10),
    hue=st.floats(0, 0.5), brightness_rule=st.sampled_from(draw.RULES)))
BLUR = st.fixed_dictionaries({'p': SHARE, 'sigma': pairs(0.01, 1000)},
                             optional=dict(kernel=st.sampled_from([1, 3, 9, 41])))
SOLARIZE = st.fixed_dictionaries({'p': SHARE}, optional=dict(threshold=SHARE))
VIEW = st.fixed_dictionaries({'size': st.integers(1, 40)}, optional=dict(
    style=st.sampled_from(draw.STYLES), area=pairs(1e-6, 1), ratio=pairs(0.01, 100), flip=SHARE,
    crop=st.sampled_from(['retried', 'clipped', 'distorted_box']), gray=SHARE,
    interpolation=st.sampled_from(['bicubic', 'bilinear', 'area']), gray_first=st.booleans(),
    reduced=st.booleans(), jitter=JITTER, blur=BLUR, solarize=SOLARIZE))
NORMALIZATION = st.fixed_dictionaries({}, optional=dict(
    mean=st.lists(st.floats(0, 255), min_size=3, max_size=3), non_blocking=st.booleans(),
    std=st.lists(st.floats(0.01, 255), min_size=3, max_size=3)))


@st.composite
def spoiled(choose, right):
    """A dict of ``right``; in half of the cases one of its values, or of a dict within, is odd."""
    values = choose(right)
    if values and choose(st.booleans()):
        section, key = values, choose(st.sampled_from(sorted(values)))
        if isinstance(section[key], dict) and choose(st.booleans()):
            section = section[key]
            key = choose(st.sampled_from(sorted(section)))
        section[key] = choose(ODD)
    return values


SHAPES = st.sampled_from([(1, 1), (1, 5000), (5000, 1), (2, 3), (40, 30)])


@settings(max_examples=300, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.too_slow])
@given(spoiled(VIEW), spoiled(NORMALIZATION), SHAPES, st.integers(0, 1000))
def test_any_view_is_refused_in_a_line_or_runs(view, normalization, shape, seed):
    try:
        built, preprocess = AugmentedView(**view), ph.ViewPreprocessor(**normalization)
    except UsageError as error:
        assert '\n' not in str(error) and len(str(error)) < 250
        return
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    sample = make_views([built], rng, image, np.zeros(shape, np.uint8), 4)
    assert sample['image'][0].shape == (built.size, built.size, 3)
    assert sample['mask'][0].shape == (built.size, built.size)
    out = preprocess(collate([sample]))['views'][0].image
    assert torch.isfinite(out).all()
    by_torch = ph.augment(torch.from_numpy(sample['image'][0]).permute(2, 0, 1)[None] / 255,
                          torch.from_numpy(sample['photometric'][0])[None])
    assert torch.isfinite(by_torch).all() and by_torch.min() >= -1e-6 and by_torch.max() <= 1 + 1e-6


WRONG = {
    'size': ['big', 10 ** 5000, 0, -3, 2.0, NAN, 1e12, 10 ** 30, True, None, 4097, [224]],
    'style': ['tensorflo', 1, None, ''], 'crop': ['torchvison', 2], 'interpolation': ['cubic', 3],
    'area': [(0, 1), (0.5, 0.2), (0.1, 1.1), (NAN, 1), 'all', 0.5, (0.1,), (True, True), None],
    'ratio': [(0, 1), (2, 1), (1, INF), 3, ('1', '2'), (1e-12, 1)],
    'flip': [-0.1, 1.1, NAN, 'yes', True, None], 'gray': [2, NAN, '0', None],
    'gray_first': [1, 'yes', None], 'reduced': [1, 'yes'],
    'jitter.p': [2, NAN, True], 'jitter.brightness': [-1, NAN, INF, 11, '1', True],
    'jitter.contrast': [-0.1, NAN, 1e12], 'jitter.saturation': [-1, INF, [1]],
    'jitter.hue': [-0.1, 0.6, NAN], 'jitter.brightness_rule': ['scale', 1, 'add'],
    'blur.p': [-1, NAN], 'blur.sigma': [(0, 0), (0, 1), (2, 1), (NAN, NAN), 1.0, (1, 1e12), 'ab'],
    'blur.kernel': [-1, 0, 2, 3.0, NAN, 10 ** 9 + 1, 65, True, 'x', None],
    'solarize.p': [3, NAN], 'solarize.threshold': [-0.1, 1.5, NAN, None],
    'jitter': [1, 'strong', [], {}, 10 ** 5000], 'blur': [1, [1, 2], {}], 'solarize': [0.5, {}]}


def str_of(value):
    return 'long' if value == 10 ** 5000 else str(value)


@pytest.mark.parametrize('key, value', [(key, value) for key, values in WRONG.items()
                                        for value in values], ids=str_of)
def test_a_wrong_value_is_named_by_its_key(key, value):
    view = dict(size=32, jitter=dict(p=1.0), blur=dict(p=1.0, sigma=(0.1, 2.0)),
                solarize=dict(p=1.0))
    section, _, name = key.rpartition('.')
    (view[section] if section else view)[name] = value
    with pytest.raises(UsageError) as caught:
        AugmentedView(**view)
    message = str(caught.value)
    assert message.startswith(key) and '\n' not in message
    if not isinstance(value, (dict, list)) and value != 10 ** 5000:
        assert repr(value)[:20] in message


@pytest.mark.parametrize('key, value', [
    ('mean', (1, 2)), ('mean', (1, 2, NAN)), ('mean', 'abc'), ('mean', (0, 0, 300)), ('mean', None),
    ('std', (0, 1, 1)), ('std', (1, 1, -1)), ('std', (1, 1, INF)), ('std', (1, 1, 1, 1)),
    ('std', (True, True, True)), ('non_blocking', 3)])
def test_normalization_is_bounded(key, value):
    with pytest.raises(UsageError, match=rf'^normalization\.{key} must be'):
        ph.ViewPreprocessor(**{key: value})
    cfg = load_config('small/detcon_r18')
    cfg.normalization[key] = value
    with pytest.raises(UsageError, match=rf'^normalization\.{key} must be'):
        check_config(cfg, 'mine')


@pytest.mark.parametrize('views', [3, 'two', [], [3, 4], {}])
def test_views_are_a_list_of_dicts(views):
    cfg = load_config('small/simclr_r18')
    cfg._cfg_dict['views'] = views
    with pytest.raises(UsageError, match='views must be a list, each a dict'):
        check_config(cfg, 'mine')


# -- the door to the compiled kernel ---------------------------------------------------------------

@pytest.mark.parametrize('column, value', [
    (draw.ORDER, 24), (draw.ORDER, -2), (draw.ORDER, 0.5), (draw.KERNEL, -1), (draw.KERNEL, 0),
    (draw.KERNEL, 1e9), (draw.STYLE, 3), (draw.SIGMA, -1), (draw.SIGMA, 1e12), (draw.SIGMA, NAN),
    (draw.HUE, INF)])
def test_the_kernel_takes_no_row_that_means_nothing(column, value):
    rows = torch.from_numpy(draw.parameters(np.random.default_rng(0)))[None].clone()
    rows[0, column] = value
    with pytest.raises(ValueError, match=r'must be'):
        augment_and_normalize(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), rows, torch.zeros(3),
                              torch.ones(3))


@pytest.mark.parametrize('images, rows, mean, std', [
    ((2, 8, 8, 3), (1, 10), 3, 3), ((1, 8, 8, 4), (1, 10), 3, 3), ((1, 8, 8), (1, 10), 3, 3),
    ((1, 0, 8, 3), (1, 10), 3, 3), ((1, 8, 8, 3), (1, 8), 3, 3), ((1, 8, 8, 3), (1, 10), 2, 3),
    ((1, 8, 8, 3), (1, 10), 3, 4)])
def test_the_kernel_takes_no_other_shapes(images, rows, mean, std):
    with pytest.raises(ValueError, match=r'must be|need'):
        augment_and_normalize(torch.zeros(images, dtype=torch.uint8), torch.ones(rows),
                              torch.zeros(mean), torch.ones(std))
    with pytest.raises(ValueError, match='uint8'):
        augment_and_normalize(torch.zeros(1, 8, 8, 3), torch.ones(1, 10), torch.zeros(3),
                              torch.ones(3))


def test_views_in_memory_of_any_layout_give_the_same():
    images = torch.randint(0, 256, (2, 12, 9, 3), dtype=torch.uint8)
    rows = torch.from_numpy(np.stack([draw.parameters(
        np.random.default_rng(n), jitter=dict(p=1.0, hue=0.1, contrast=0.4)) for n in (0, 1)]))
    turned = images.transpose(1, 2).contiguous().transpose(1, 2)
    wide = torch.empty(2, 20, dtype=torch.float32)[:, ::2].copy_(rows)
    one, two = (augment_and_normalize(x, r, torch.zeros(3), torch.ones(3))
                for x, r in ((images, rows), (turned, wide)))
    assert torch.equal(one, two)


# -- what a run is --------------------------------------------------------------------------------

def test_a_run_of_before_is_resumed_if_its_views_are_the_same():
    """Its identity had the kernel under normalization, 23 by default, and no style."""
    blur = dict(p=1.0, sigma=(0.1, 2.0))
    views = [AugmentedView(size=128, blur=blur), AugmentedView(size=128)]
    now = {'views.0.size': 128, 'views.0.blur.p': 1.0, 'views.1.size': 128,
           **settings_of_views(views)}
    was = {'views.0.size': 128, 'views.0.blur.p': 1.0, 'views.1.size': 128}
    assert changes(as_views_have_it({**was, 'normalization.blur_kernel': 13}), now) == []
    assert changes(as_views_have_it(was), now) == [('views.0.blur.kernel', 23, 13)]
    assert as_views_have_it(now) == now
    other = settings_of_views([AugmentedView(size=128, blur=blur, style='tensorflow')])
    assert ('views.0.style', 'torchvision', 'tensorflow') in changes(as_views_have_it(was), other)
