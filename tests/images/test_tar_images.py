"""Reading tar shards: the same bits, batches and shared memory as with files; damage; refusals."""
from __future__ import annotations

import itertools
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from tar_samples import draw, masked, names_of, numbered

from densessl.errors import RunFailed, UsageError
from densessl.images import tar_files
from densessl.images.find import find_images
from densessl.images.image_list import UnreadableImage
from densessl.images.tar_layout import header, header_size
from densessl.labels.class_labels import class_labels
from densessl.masks.find import store_for_training
from densessl.masks.tar_masks import masks_beside
from densessl.shards.write import make_shards
from densessl.views.dataset import ViewDataset, build_loader
from densessl.views.view import AugmentedView


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """50 images, their masks, and both in shards."""
    folder = tmp_path_factory.mktemp('written')
    images = draw(folder / 'in', [*numbered(47), 'a/x.y.png', 'b/100%.jpg', 'c/ü.jpg'])
    store = masked(folder / 'masks', images, maps=2)
    make_shards(images, folder / 'out', masks=store.root, shard_size=110_000, progress=False)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    """Shards that a test may damage."""
    for path in (written / 'out').iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def dataset(folder, masks=None, images=None):
    images = images or find_images(folder)
    store, images = store_for_training(images, dict(store=str(masks or folder)), is_builder=True)
    view = AugmentedView(size=32, jitter=dict(p=0.8, brightness=0.4, hue=0.1), gray=0.2)
    return ViewDataset(images, store, [view, view], seed=5, uniforms=4)


def equal(one, two):
    return len(one) == len(two) and all(
        a.keys() == b.keys() and a['regions'] == b['regions']
        and all(torch.equal(x, y) for key in a.keys() - {'regions'}
                for x, y in zip(a[key], b[key], strict=True))
        for a, b in zip(one, two, strict=True))


def test_images_are_what_the_files_were(written):
    files, shards = find_images(written / 'in'), find_images(written / 'out')
    assert len(shards.shards.names) > 3
    assert names_of(shards) == names_of(files) and shards.digest() == files.digest()
    for i in range(len(files)):
        assert shards.data(i) == files.data(i) and shards.stat(i)[0] == files.stat(i)[0]
        assert np.array_equal(shards.read(i), files.read(i)) and shards.size(i) == files.size(i)
        assert shards.path(i).parent == written / 'out' and shards.path(i).suffix == '.tar'
    with pytest.raises(IndexError):
        shards.name(len(shards))


def test_batches_are_the_same_as_of_files(written):
    """Of every position, in forked workers, and from the middle of an epoch on."""
    def batches(data, workers=0, skip=0):
        loader = build_loader(data, batch_size=7, num_workers=workers)
        loader.sampler.skip(skip)
        return list(itertools.islice(iter(loader), 20 - skip // 7))
    files = batches(dataset(written / 'in', written / 'masks'))      # almost three epochs
    assert all(set(mask.unique().tolist()) == {0, 1} for batch in files for mask in batch['mask'])
    assert equal(batches(dataset(written / 'out')), files)
    assert equal(batches(dataset(written / 'out'), workers=2), files)
    assert equal(batches(dataset(written / 'out', written / 'masks'), workers=1), files)
    assert equal(batches(dataset(written / 'in', written / 'out')), files)
    assert equal(batches(dataset(written / 'out'), skip=7 * 9), files[9:])


def test_spawned_workers_read_the_same(written):
    data = dataset(written / 'out')
    loader = build_loader(data, batch_size=5, num_workers=1)
    loader.multiprocessing_context = 'spawn'
    spawned = list(itertools.islice(iter(loader), 4))
    plain = list(itertools.islice(iter(build_loader(data, batch_size=5, num_workers=0)), 4))
    assert equal(spawned, plain)


def test_names_and_places_are_shared_with_spawned_workers(written):
    """What travels to a worker does not grow with the list."""
    images = find_images(written / 'out')
    many = images.select(np.arange(100_000) % len(images))
    data = dataset(written / 'out', images=many)
    sizes = [len(ForkingPickler.dumps(one)) for one in (dataset(written / 'out'), data)]
    assert sizes[1] < sizes[0] + 1000 < 20_000
    mapped = [data.shared[key][-1].numpy() for key in ('images', 'masks')]
    assert mapped[0].shape == (100_000, 3 + 2 * 2) and mapped[1].shape == (100_000, 1 + 2 * 2)
    assert np.shares_memory(data.images.entries, mapped[0])
    assert np.shares_memory(data.masks.entries, mapped[1])
    again = pickle.loads(ForkingPickler.dumps(data))
    assert len(again) == 100_000
    assert np.array_equal(again[3, 77_777]['image'][0], data[3, 77_777]['image'][0])


def test_a_selection_keeps_images_and_masks_together(written):
    images = find_images(written / 'out')
    some = images.select([9, 3, 30])
    for k, i in enumerate((9, 3, 30)):
        assert some.name(k) == images.name(i) and some.data(k) == images.data(i)
        for which in range(2):
            assert masks_beside(some).data(k, which) == masks_beside(images).data(i,
                                                                                    which)
    files = find_images(written / 'in').select([40, 8])      # other images than the shards'
    store, kept = store_for_training(files, dict(store=str(written / 'out')), is_builder=True)
    assert len(kept) == 2
    assert store.data(1, 1) == masks_beside(images).data(8, 1)


def test_a_shard_that_has_gone_is_an_image_that_cannot_be_read(written, tmp_path):
    images = find_images(written / 'out')
    masks = masks_beside(images)
    assert masks.stat(0) == (len(masks.data(0)), images.stat(0)[1])
    gone = images.path(0).rename(tmp_path / 'elsewhere')
    try:
        for read in (images.stat, masks.stat):
            with pytest.raises(UnreadableImage, match='No such file'):
                read(0)
    finally:
        gone.rename(images.path(0))


@pytest.mark.parametrize('length', [1, 99, 100, 101, 511, 512, 2000])
def test_the_size_of_a_header_is_known_without_it(length):
    for name in ('a' * length, 'ä' * (length // 2) + 'a' * (length % 2)):
        assert header_size(name) == len(header(name, 5))


def test_few_files_are_open_whoever_reads(written, monkeypatch):
    monkeypatch.setattr(tar_files, 'OPEN', 2)
    images = find_images(written / 'out')
    wanted = [find_images(written / 'in').data(i) for i in range(len(images))]

    def is_open(descriptor):
        try:
            return os.readlink(f'/proc/self/fd/{descriptor}').startswith(str(written / 'out'))
        except OSError:
            return False

    order = np.random.default_rng(0).integers(0, len(images), 2000)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(images.data, order))
    assert all(data == wanted[i] for data, i in zip(read, order, strict=True))
    if os.path.isdir('/proc/self/fd'):
        assert sum(map(is_open, os.listdir('/proc/self/fd'))) == 2
    again = pickle.loads(pickle.dumps(images))               # its own files
    assert again.data(7) == wanted[7]


# -- damage ---------------------------------------------------------------------------------------

def flip(images, i, column=1, count=200):
    """Invert bytes at the start of an image's, or a label map's, contents."""
    number, offset = images.entries[i, 0], images.entries[i, column]
    with images.shards.path(number).open('r+b') as file:
        file.seek(offset)
        data = file.read(count)
        file.seek(offset)
        file.write(bytes(255 - byte for byte in data))


def test_a_damaged_image_is_replaced_by_the_next(copy, capfd):
    data = dataset(copy)
    expected = data[7, 12]
    flip(data.images, 11)
    with pytest.raises(UnreadableImage, match=rf'\.tar: {data.images.name(11)}: '):
        data.images.read(11)
    assert all(np.array_equal(a, b) for a, b in
               zip(data[7, 11]['image'], expected['image'], strict=True))
    assert f'.tar: {data.images.name(11)}: not an image' in capfd.readouterr().err


def test_a_damaged_mask_stops_the_run(copy):
    data = dataset(copy)
    for column in (3, 5):
        flip(data.images, 11, column)
    with pytest.raises(RunFailed, match=r'\.tar: mask [01] of .*: not a PNG label map; write the '
                                        r'shards again'):
        data[7, 11]


def test_a_shard_that_goes_while_it_is_read_is_said(copy):
    images = find_images(copy)
    for path in copy.glob('*.tar'):
        os.truncate(path, 600)
    with pytest.raises(UnreadableImage, match=r'the shard ends at byte'):
        images.read(5)
    for path in copy.glob('*.tar'):
        path.unlink()
    with pytest.raises(UnreadableImage, match=r'000000.tar: a/000.jpg: No such file'):
        find_again(images).read(0)
    with pytest.raises(UnreadableImage, match='No such file'):
        images.stat(0)


def find_again(images):
    return pickle.loads(pickle.dumps(images))


@pytest.mark.parametrize('damage, says', [
    (lambda folder: (folder / '000001.tar').unlink(), '000001.tar: No such file.*copy it again'),
    (lambda folder: os.truncate(folder / '000001.tar', 5000), '000001.tar has 5000 bytes, not the'),
    (lambda folder: (folder / 'index.npz').unlink(), 'index.npz cannot be used .*No such file'),
    (lambda folder: os.truncate(folder / 'index.npz', 2000), 'index.npz cannot be used'),
    (lambda folder: (folder / 'shards.json').write_text('{'), 'shards.json cannot be used'),
    (lambda folder: (folder / 'shards.json').write_text('[1]'), 'shards.json cannot be used'),
    (lambda folder: (folder / 'shards.json').write_text('{"format": 7}'), 'its format is 7'),
    (lambda folder: change(folder, shards=[{}]), 'shards.json cannot be used: .* must have'),
    (lambda folder: change(folder, digest='0'), 'index.npz lists other images than shards.json'),
    (lambda folder: change(folder, complete=False), 'unfinished: run the same "densessl make_sh'),
])
def test_a_folder_that_is_not_what_its_index_says_is_refused(copy, damage, says):
    damage(copy)
    with pytest.raises(UsageError, match=says) as error:
        find_images(copy)
    assert '\n' not in str(error.value) and str(copy) in str(error.value)


def change(folder, **values):
    path = folder / 'shards.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# -- masks and labels -----------------------------------------------------------------------------

def test_masks_of_other_making_are_refused(written):
    images = find_images(written / 'out')
    with pytest.raises(UsageError, match=r'made with halves\(maps=2\) version 1, not grid\(.*'
                                         r'--masks .*out\).*masks.store=FOLDER') as error:
        store_for_training(images, dict(type='grid', rows=2), is_builder=True)
    assert '\n' not in str(error.value)


def test_shards_without_masks_have_them_made_in_the_cache(written, tmp_path, monkeypatch):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))
    images = find_images(written / 'in')
    make_shards(images, tmp_path / 'bare', progress=False)
    bare = find_images(tmp_path / 'bare')
    assert masks_beside(bare) is None
    with pytest.raises(UsageError, match='hold no masks: write them with "densessl make_shards'):
        store_for_training(bare, dict(store=str(tmp_path / 'bare')), is_builder=True)
    grid = dict(type='grid', rows=2, cols=2)
    store, kept = store_for_training(bare, grid, is_builder=True)
    assert store.root.parent == tmp_path / 'cache' / 'masks' and len(kept) == len(images)
    assert store.read(4).shape == images.size(4)
    path = tmp_path / 'own'
    store, _ = store_for_training(find_images(written / 'out'), grid | dict(store=str(path)),
                                  is_builder=True)
    assert store.root == path and store.maps == 1     # not those in the shards


def test_classes_are_the_folders_of_the_names(written):
    shards = find_images(written / 'out')
    assert (class_labels(shards) == class_labels(find_images(written / 'in'))).all()
    assert set(class_labels(shards)) == {0, 1, 2}
