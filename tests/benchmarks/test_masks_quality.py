"""The measures of region quality against loops over pixels; what `make bench-masks` is made of."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.registry import MASK_GENERATORS

FOLDER = Path(__file__).parents[2] / 'benchmarks'
BSDS = Path(__file__).parents[3] / 'shared/data/bsds500'
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def beside_the_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def draw(shape=(13, 17), regions=5):
    """Connected enough: the nearest of some points."""
    points = RNG.uniform((0, 0), shape, (regions, 2))
    at = np.stack(np.mgrid[:shape[0], :shape[1]], -1)[..., None, :]
    return ((at - points) ** 2).sum(-1).argmin(-1)


def naive_asa(labels, truth):
    right = 0
    for region in np.unique(labels):
        inside = truth[labels == region].tolist()
        right += max(inside.count(value) for value in set(inside))
    return right / labels.size


def naive_under(labels, truth):
    error = 0
    for segment in np.unique(truth):
        for region in np.unique(labels):
            both = int(((labels == region) & (truth == segment)).sum())
            if both:
                error += min(both, int((labels == region).sum()) - both)
    return error / labels.size


def naive_recall(labels, truth, tolerance):
    def boundary(values, y, x):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        return any(0 <= v < values.shape[0] and 0 <= u < values.shape[1]
                   and values[v, u] != values[y, x] for v, u in around)
    pixels = [(y, x) for y in range(labels.shape[0]) for x in range(labels.shape[1])]
    ours = [at for at in pixels if boundary(labels, *at)]
    theirs = [at for at in pixels if boundary(truth, *at)]
    found = [at for at in theirs if any(abs(at[0] - y) <= tolerance and abs(at[1] - x) <= tolerance
                                        for y, x in ours)]
    return len(found) / len(theirs)


def test_measures_are_those_of_the_definitions():
    from densessl.masks.quality import boundary_recall, measure, overlap_scores
    for _ in range(5):
        labels, truth = draw(), draw(regions=4)
        asa, under = overlap_scores(labels, truth)
        assert asa == pytest.approx(naive_asa(labels, truth))
        assert under == pytest.approx(naive_under(labels, truth))
        for tolerance in (0, 1, 2):
            assert boundary_recall(labels, truth, tolerance) == pytest.approx(
                naive_recall(labels, truth, tolerance))
    both = measure(labels, [truth, labels])
    assert both.asa == pytest.approx((naive_asa(labels, truth) + 1) / 2)
    assert both.under == pytest.approx(naive_under(labels, truth) / 2)
    assert measure(labels, [labels]) == measure(labels, [labels, labels])
    assert boundary_recall(labels, np.zeros_like(labels)) == 1.0


def test_pictures_are_found_with_their_people(tmp_path, capsys):
    import mask_pictures
    for folder in ('images', 'labels'):
        (tmp_path / folder / 'val').mkdir(parents=True)
    truths = [draw((30, 20)).astype(np.uint8) for _ in range(3)]
    for name in ('a', 'b', 'without'):
        Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(
            tmp_path / 'images' / 'val' / f'{name}.jpg')
    for k, truth in enumerate(truths):
        Image.fromarray(truth).save(tmp_path / 'labels' / 'val' / f'{"aab"[k]}_{k}.png')
    what, some = mask_pictures.pictures(tmp_path, 9)
    assert '2 photos' in what and [len(each.truths) for each in some] == [2, 1]
    assert (some[0].truths[1] == truths[1]).all()
    assert some[0].resized((30, 60)).image.shape == (60, 30, 3), 'upright stays upright'
    with pytest.raises(SystemExit, match='no images/val'):
        mask_pictures.pictures(tmp_path / 'none', 9)


def test_without_photos_scenes_are_drawn(tmp_path, monkeypatch, capsys):
    import mask_pictures
    monkeypatch.setenv(mask_pictures.DATA, str(tmp_path))
    what, some = mask_pictures.pictures(None, 2)
    assert '2 drawn scenes' in what and some[0].image.shape == (321, 481, 3)
    assert '--data DIR' in capsys.readouterr().out
    for config in mask_pictures.write_first_truths(tmp_path / 'given', some):
        for picture in some:
            labels = MASK_GENERATORS.build(config).for_image(f'{picture.name}.jpg', picture.image)
            classes = [np.unique(picture.truths[0][labels == region]) for region in
                       range(int(labels.max()) + 1)]
            assert all(len(found) == 1 for found in classes), config['type']
            assert len(classes) == len(np.unique(picture.truths[0]))


def test_the_verdict_is_on_time_memory_and_quality():
    import masks

    from densessl.masks.quality import Quality
    peer = masks.Row([0.3, 0.6], [3.0], [4], [Quality(0.6, 0.5, 0.3)], 100)
    own = masks.Row([0.01, 0.02], [0.1], [5], [Quality(0.604, 0.497, 0.302)], 49)
    rows = {masks.OWN: own, masks.PEER: peer}
    assert all(holds for _, holds in masks.verdict(rows))
    assert masks.table(rows)[2] == '| `felzenszwalb` | 15.0 | 30.0 | 100.0 | 30.0 | 49 | 5 | ' \
                                   '60.4 | 49.7 | 30.2 |'
    for change in (dict(small=[0.03, 0.06]), dict(large=[0.3]), dict(peak=51.0),
                   dict(quality=[Quality(0.594, 0.5, 0.3)]),
                   dict(quality=[Quality(0.6, 0.5, 0.31)])):
        assert sum(not holds for _, holds in masks.verdict(
            {**rows, masks.OWN: masks.Row(**{**vars(own), **change})})) == 1, change


@pytest.mark.slow
@pytest.mark.skipif(not BSDS.is_dir(), reason='needs the shared data (bsds500)')
def test_the_kernel_is_as_good_as_scikit_image_on_photos(tmp_path):
    import mask_pictures
    import masks

    from densessl.masks.quality import measure
    _, some = mask_pictures.pictures(BSDS, 100)
    means = {}
    for name in (masks.OWN, masks.PEER):
        generator = MASK_GENERATORS.build(dict(type=name))
        scores = [measure(generator(picture.image), picture.truths) for picture in some]
        means[name] = np.array([[s.asa, s.recall, s.under] for s in scores]).mean(axis=0)
    assert np.abs(means[masks.OWN] - means[masks.PEER]).max() <= masks.POINTS / 100
