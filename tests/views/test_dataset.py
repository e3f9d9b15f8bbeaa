"""Batches: what a position holds, whatever reads it, and what is done about broken files."""
from __future__ import annotations

import itertools
import os
import shutil

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from densessl.errors import RunFailed, UsageError
from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.masks.generator import MaskGenerator
from densessl.masks.store import MaskStore
from densessl.pixels.decode import UnreadableImage, open_image
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset, build_loader
from densessl.views.photometry import ViewPreprocessor
from densessl.views.unreadable import UnreadableImages
from densessl.views.view import AugmentedView, make_views

SIZES = [(90, 120), (600, 500), (64, 70), (520, 300), (900, 1200)]
CELL = 30                             # side of a region, in pixels


class Cells(MaskGenerator):
    """Square regions; of an image with more than 256 of them the ids need 16 bits."""

    name = 'cells'

    def __call__(self, image):
        rows, columns = np.mgrid[:image.shape[0], :image.shape[1]] // CELL
        return rows * (columns.max() + 1) + columns


@pytest.fixture
def data(tmp_path):
    """Photographs in kind: JPEGs from less than a view's size to more than eight times it."""
    (tmp_path / 'in').mkdir()
    for i, (height, width) in enumerate(SIZES):
        waves = 127 + 90 * np.sin(np.mgrid[:height, :width].sum(0) / (height / 3))
        shades = np.linspace(0.6, 1.0, width)[None, :, None] * [1.0, 0.8, 0.6]
        cv2.imwrite(str(tmp_path / 'in' / f'{i}.jpg'), waves[..., None] * shades)
    images = find_images(tmp_path / 'in')
    make_masks(images, tmp_path / 'out', Cells(), workers=1, progress=False)
    view = AugmentedView(size=48, jitter=dict(p=0.8, brightness=0.4, hue=0.1), gray=0.2)
    return ViewDataset(images, MaskStore(tmp_path / 'out').of(images), [view, view], seed=5,
                       uniforms=4)


def test_a_sample_is_the_views_of_its_image(data):
    """Decoding less than the whole changes no random number, hardly the pixels, and an id only to
    a neighbor's."""
    reduced = 0
    for n in range(40):
        i = n % len(SIZES)
        sample = data[n, i]
        path, rng = data.images.path(i), np.random.default_rng((5, 1, n))
        whole = make_views(data.views, rng, open_image(path).pixels(),
                           data.masks.read(i), 4)
        for key in ('photometric', 'uniforms'):
            assert all(np.array_equal(a, b) for a, b in zip(sample[key], whole[key], strict=True))
        if all(np.array_equal(a, b) for a, b in zip(sample['image'], whole['image'], strict=True)):
            continue
        reduced += 1
        assert min(SIZES[i]) >= 2 * 48, 'no image is decoded at less than a view needs'
        for one, two in zip(sample['image'], whole['image'], strict=True):
            assert np.abs(one.astype(int) - two).mean() < 6
        for one, two in zip(sample['mask'], whole['mask'], strict=True):
            columns = -(-SIZES[i][1] // CELL)
            one, two = (np.stack(np.divmod(ids.astype(int), columns)) for ids in (one, two))
            assert np.abs(one - two).max() <= 1      # a region is down to 1.2 pixels wide
    assert 10 < reduced < 30
    for view in data.views:
        view.reduced = False
    assert np.array_equal(data[39, 4]['image'][0], whole['image'][0])


def test_workers_and_order_change_nothing(data):
    def batches(workers):
        loader = build_loader(data, batch_size=3, num_workers=workers)
        return list(itertools.islice(iter(loader), 4))
    for one, two in zip(batches(0), batches(2), strict=True):
        assert one.keys() == two.keys() == {'image', 'mask', 'photometric', 'uniforms', 'regions'}
        assert one.pop('regions') == two.pop('regions')
        for key in one:
            for a, b in zip(one[key], two[key], strict=True):
                assert torch.equal(a, b) and a.dtype == b.dtype and len(a) == 3


def test_ids_take_no_more_bytes_than_they_need(data):
    eight, sixteen = data[0, 0], data[1, 4]
    assert eight['mask'][0].dtype == np.uint8 and sixteen['mask'][0].dtype == np.uint16
    small, large = collate([eight, eight]), collate([eight, sixteen])
    assert small['mask'][0].dtype == torch.uint8 and large['mask'][0].dtype == torch.int32
    assert (large['mask'][1][1].numpy() == sixteen['mask'][1]).all()
    assert large['regions'] == 1 + max(int(m.max()) for s in (eight, sixteen) for m in s['mask'])
    for batch in (small, large):     # and what a method sees is of one kind
        view = ViewPreprocessor()(batch)['views'][0]
        assert view.mask.dtype == torch.int32 and torch.equal(view.mask, batch['mask'][0].int())


class Shared(ViewDataset):
    """Says in each sample that it was read by a worker."""

    def __getitem__(self, position):
        assert get_worker_info() is not None
        return super().__getitem__(position)


def test_a_batch_is_written_once_into_shared_memory(data, monkeypatch):
    data.__class__ = Shared
    monkeypatch.setattr('densessl.views.dataset.collate', collate_and_look)
    batch = next(iter(build_loader(data, batch_size=2, num_workers=1)))
    assert batch['were_shared'] == [True] * 4


def collate_and_look(samples):
    batch = collate(samples)
    tensors = [*batch['image'], *batch['mask']]
    return batch | {'were_shared': [tensor.is_shared() for tensor in tensors]}


def test_a_broken_image_is_replaced_by_the_next(data, capfd):
    expected = data[7, 3]
    whole = data.images.path(2).read_bytes()
    data.images.path(2).write_bytes(whole[:len(whole) // 2])
    for name in ('image', 'mask', 'photometric', 'uniforms'):
        for a, b in zip(data[7, 2][name], expected[name], strict=True):
            assert np.array_equal(a, b)
    assert '2.jpg: ' in capfd.readouterr().err
    for i in range(len(SIZES)):
        data.images.path(i).write_bytes(b'')
    with pytest.raises(RuntimeError, match=r'5 of 5 images cannot be read: .*no image is left'):
        data[7, 2]


@pytest.mark.parametrize('damage, says', [
    (lambda path: path.unlink(), 'No such file.*make it again'),
    (lambda path: path.write_bytes(path.read_bytes()[:40]), 'make it again'),
    (lambda path: cv2.imwrite(str(path), np.zeros((7, 9), np.uint8)),
     '9×7 but its image is 120×90'),
])
def test_a_broken_mask_stops_the_run(data, damage, says):
    """Training on with other regions than the config says would be silent."""
    damage(data.masks.store.path('0.jpg'))
    with pytest.raises(RuntimeError, match=says):
        data[0, 0]


@pytest.fixture
def many(tmp_path):
    """A hundred images, a third of them unreadable in one stretch."""
    (tmp_path / 'many').mkdir()
    for i in range(100):
        path = tmp_path / 'many' / f'{i:02}.png'
        cv2.imwrite(str(path), np.full((40, 40, 3), i, np.uint8))
        if 30 <= i < 60:
            path.write_bytes(b'no image')
    return find_images(tmp_path / 'many')


def dataset(images, share, path):
    return ViewDataset(images, None, [AugmentedView(size=16)] * 2, seed=1,
                       unreadable=UnreadableImages(len(images), share, path))


def test_any_number_in_a_row_is_passed_over_and_listed_once(many, tmp_path, capfd):
    """Whatever worker and epoch meets them."""
    data = dataset(many, 0.5, tmp_path / 'list.txt')
    for n in range(200):
        i, _ = data.sample((n, n % 100))
        assert i == (n % 100 if not 30 <= n % 100 < 60 else 60)
    names = [f'{i}.png' for i in range(30, 60)]
    assert sorted(data.unreadable.listed()) == names
    err = capfd.readouterr().err
    assert all(err.count(f'{name}:') == 1 for name in names)
    other = dataset(many, 0.5, tmp_path / 'list.txt')        # another worker, or a resumed run
    other.sample((3, 30))
    assert capfd.readouterr().err == ''
    assert other.unreadable.said().startswith('30 of 100 images cannot be read: 30.png (')
    list(itertools.islice(iter(build_loader(other, batch_size=10, num_workers=2)), 12))


def test_more_than_the_allowed_share_stops_the_run(many, tmp_path):
    data = dataset(many, 0.1, tmp_path / 'list.txt')
    with pytest.raises(RunFailed, match=r'11 of 100 .*more than max_unreadable=0.1 allows'):
        for i in range(100):
            data[i, i]
    assert 'max_unreadable=0.22)' in data.unreadable._too_many(data.unreadable.listed())
    with pytest.raises(UsageError, match='0 to 1'):
        UnreadableImages(5, 'few')


@pytest.mark.parametrize('total, share, allowed', [(17, 0.01, 1), (100, 0.29, 29), (9, 0.5, 4)])
def test_the_share_is_counted_exactly_and_the_one_that_is_proposed_suffices(total, share, allowed):
    def note(noted, count):
        for i in range(count):
            noted.note(f'{i}.png', UnreadableImage(f'{i}.png', 'empty'))

    note(UnreadableImages(total, share), allowed)
    with pytest.raises(RunFailed) as error:
        note(UnreadableImages(total, share), allowed + 1)
    note(UnreadableImages(total, float(str(error.value).split('=')[-1][:-1])), allowed + 1)


def test_a_resumed_run_forgets_those_that_were_mended(many, tmp_path):
    first = dataset(many, 0.5, tmp_path / 'list.txt')
    first.sample((0, 30))
    for i in range(30, 59):
        shutil.copy(many.path(0), many.path(i))
    resumed = UnreadableImages(100, 0.01, tmp_path / 'list.txt')
    resumed.begin(many, resume=True)
    assert list(resumed.listed()) == ['59.png']
    resumed.begin(many, resume=False)
    assert resumed.said() == ''


def test_a_list_that_a_kill_cut_off_and_names_of_any_bytes(tmp_path):
    noted = UnreadableImages(9, 1.0, tmp_path / 'list.txt')
    name = os.fsdecode(b'a\xff\nb.jpg')
    noted.note(name, UnreadableImage(name, 'empty'))
    with open(noted.path, 'a') as file:
        file.write('["c.jp')
    assert UnreadableImages(9, 1.0, noted.path).listed() == {name: 'empty'}
    UnreadableImages(9, 1.0, noted.path).note('d', UnreadableImage('d', 'none'))
    noted.path.write_bytes(noted.path.read_bytes() + b'[1]\n5\n\xff\xfe\n')
    assert UnreadableImages(9, 1.0, noted.path).listed() == {name: 'empty', 'd': 'none'}
