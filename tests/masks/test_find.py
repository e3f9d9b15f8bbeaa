"""The masks a training run asks for: one builder at a time, the others wait; the cache."""
import json
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from densessl.errors import UsageError
from densessl.files import lock as build_lock
from densessl.images.find import find_images
from densessl.machine.cores import cores
from densessl.masks import find as mask_cache
from densessl.masks.build import make_masks
from densessl.masks.check import check_masks
from densessl.masks.find import store_for_training
from densessl.masks.store import MaskStore
from densessl.registry import MASK_GENERATORS

RNG = np.random.default_rng(0)
GRID = dict(type='grid', rows=2, cols=3)


def draw(folder, count=6, shape=(12, 16, 3)):
    for i in range(count):
        path = folder / f'{"abc"[i % 3]}' / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(1, 256, shape, dtype=np.uint8)).save(path)
    return find_images(folder)


def grid(rows=2, cols=3):
    return MASK_GENERATORS.build(dict(type='grid', rows=rows, cols=cols))


# -- one builder at a time -------------------------------------------------------------------------

@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(build_lock, 'BEAT', 0.1)
    monkeypatch.setattr(build_lock, 'PATIENCE', 1.0)
    monkeypatch.setattr(mask_cache, 'POLL', 0.02)


def test_a_living_builder_is_left_alone(tmp_path, quick):
    images = draw(tmp_path / 'in', 2)
    (tmp_path / 'out').mkdir()
    with build_lock.BuildLock(tmp_path / 'out'), \
            pytest.raises(UsageError, match='is being built by another process'):
        make_masks(images, tmp_path / 'out', grid(), workers=1)
    assert make_masks(images, tmp_path / 'out', grid(), workers=1).made == 2


@pytest.mark.parametrize('holder', [
    {'host': build_lock.socket.gethostname(), 'pid': 2 ** 22 + 1},   # above any pid
    {'host': 'elsewhere', 'pid': 1}, {'failed': 'disk full'}, {}])
def test_a_dead_builder_is_replaced(tmp_path, quick, holder):
    images = draw(tmp_path / 'in', 2)
    (tmp_path / 'out').mkdir()
    build_lock.lock_path(tmp_path / 'out').write_text(json.dumps(holder))
    assert make_masks(images, tmp_path / 'out', grid(), workers=1).made == 2
    assert not build_lock.lock_path(tmp_path / 'out').exists()


# -- masks for training ----------------------------------------------------------------------------

@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def test_missing_masks_are_built_once_in_the_cache(tmp_path, cache, capsys, monkeypatch):
    images = draw(tmp_path / 'in', 3)
    store, kept = store_for_training(images, GRID, is_builder=True)
    assert store.root.parent == cache / 'masks' and len(kept) == 3 and store.complete
    assert re.fullmatch(r'in-[0-9a-f]{12}', store.root.name)
    assert 'building the masks of 3' in capsys.readouterr().err
    monkeypatch.setattr(mask_cache, 'make_masks', None)     # not called again
    for is_builder in (True, False):
        again, _ = store_for_training(images, GRID, is_builder=is_builder)
        assert again.root == store.root
    assert capsys.readouterr().err == ''


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'file' / 'cache'))
    with pytest.raises(UsageError, match=r'the cache .*file/cache cannot be made: .*file is a file'
                                         r': set DENSESSL_CACHE'):
        store_for_training(draw(tmp_path / 'in', 2), GRID, is_builder=True)


def test_the_cache_tells_data_and_parameters_apart(tmp_path, cache, monkeypatch):
    images, others = draw(tmp_path / 'in', 2), draw(tmp_path / 'other' / 'in', 2)
    folders = [mask_cache.cache_folder(*of) for of in [
        (images, grid()), (others, grid()), (images.select([0]), grid()), (images, grid(rows=3))]]
    assert len(set(folders)) == 4 and folders[0] == mask_cache.cache_folder(images, grid())
    monkeypatch.delenv('DENSESSL_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert mask_cache.cache_folder(images, grid()).parent == tmp_path / 'xdg' / 'densessl' / 'masks'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert mask_cache.cache_folder(images, grid()).is_relative_to(tmp_path / 'home' / '.cache')


def test_a_store_is_used_as_it_is(tmp_path, monkeypatch):
    images = draw(tmp_path / 'in', 3)
    store = str(tmp_path / 'out')
    built, _ = store_for_training(images, dict(GRID, store=store), is_builder=True)
    assert built.root == tmp_path / 'out'
    monkeypatch.setattr(MaskStore, 'has', None)             # no look at any mask
    for masks in (dict(store=store), dict(GRID, store=store), dict(type='grid', store=store)):
        assert len(store_for_training(images, masks, is_builder=False)[1]) == 3
    for masks in (dict(GRID, rows=7, store=store), dict(type='felzenszwalb', store=store)):
        with pytest.raises(UsageError, match=r'were made with grid\(rows=2, cols=3\).*, not '):
            store_for_training(images, masks, is_builder=True)


@pytest.mark.parametrize('masks, says', [
    (dict(), "type='NAME'"), (dict(scale=3), 'no type'), (dict(type='grit'), "did you mean 'grid'"),
    (dict(type='grid', row=3), "did you mean 'rows'"), (dict(store='gone'), 'not a mask store')])
def test_wrong_masks_are_said(tmp_path, cache, masks, says):
    with pytest.raises(UsageError, match=says):
        store_for_training(draw(tmp_path / 'in', 1), masks, is_builder=True)


def test_a_store_of_other_images_is_said(tmp_path):
    make_masks(draw(tmp_path / 'in', 3), tmp_path / 'out', grid(), workers=1)
    Image.new('RGB', (9, 9)).save(tmp_path / 'q.png')
    with pytest.raises(UsageError, match=r'no mask of any image in .*q\.png would have'):
        (tmp_path / 'l.txt').write_text('q.png')
        store_for_training(find_images(tmp_path / 'l.txt'), dict(store=str(tmp_path / 'out')),
                           is_builder=True)


def in_thread(images, results):
    def run():
        try:
            results.append(store_for_training(images, GRID, is_builder=False))
        except Exception as error:
            results.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_other_ranks_wait_for_the_builder(tmp_path, cache, quick):
    images, results = draw(tmp_path / 'in', 3), []
    waiting = in_thread(images, results)
    time.sleep(0.3)
    store, _ = store_for_training(images, GRID, is_builder=True)
    waiting.join(10)
    assert results[0][0].root == store.root and len(results[0][1]) == 3


def test_other_ranks_learn_that_the_builder_failed(tmp_path, cache, quick):
    images, results = draw(tmp_path / 'in', 1), []
    images.path(0).write_text('no image')
    waiting = in_thread(images, results)
    time.sleep(0.3)
    with pytest.raises(UsageError, match='none of the 1 images'):
        store_for_training(images, GRID, is_builder=True)
    waiting.join(10)
    assert isinstance(results[0], UsageError)
    assert re.search('were not built: none of the 1 images', str(results[0]))


def test_other_ranks_do_not_wait_for_nobody(tmp_path, cache, quick):
    with pytest.raises(UsageError, match=r'nobody has built masks .* DENSESSL_CACHE'):
        store_for_training(draw(tmp_path / 'in', 1), GRID, is_builder=False)


@pytest.mark.skipif(cores() == 1, reason='one core needs no worker process')
def test_a_script_without_a_guard_is_told_so(tmp_path):
    """The builder's workers run it again, and there it would wait for the builder."""
    draw(tmp_path / 'in', 4)
    script = tmp_path / 'script.py'
    script.write_text('from densessl.images.find import find_images\n'
                      'from densessl.masks.find import store_for_training\n'
                      'store_for_training(find_images("in"), dict(type="grid", rows=2, cols=3), '
                      'is_builder=True)\n')
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, timeout=120, text=True,
                          env={**os.environ, 'DENSESSL_CACHE': str(tmp_path / 'cache')},
                          capture_output=True)
    assert done.returncode == 1
    assert 'without "if __name__ == \'__main__\':"' in done.stderr.splitlines()[-1]


def test_a_store_of_another_hand_is_used(tmp_path):
    """A folder of label maps with the least that `masks.json` must say."""
    images = draw(tmp_path / 'in', 3)
    for i in range(2):                              # one image has no mask
        path = tmp_path / 'out' / images.name(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat([[0, 1] * 8], 12, axis=0).astype(np.uint8)).save(path)
    (tmp_path / 'out' / 'masks.json').write_text(
        '{"generator": "mine", "parameters": {}, "version": 1, "complete": true}')
    store, kept = store_for_training(images, dict(store=str(tmp_path / 'out')), is_builder=True)
    assert [kept.name(i) for i in range(len(kept))] == [images.name(i) for i in range(2)]
    assert store.read(1).max() == 1
    assert dict(check_masks(store)) == {}
    assert list(dict(check_masks(store.store.of(images)))) == [images.name(2)]
