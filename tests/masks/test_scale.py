"""A store of any size costs the same to open: masks are touched by path, trees are not listed."""
import os
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.masks.find import store_for_training
from densessl.masks.store import MaskStore
from densessl.registry import MASK_GENERATORS
from densessl.views.dataset import ViewDataset
from densessl.views.view import AugmentedView

EVENTS = ('open', 'os.listdir', 'os.scandir', 'glob.glob', 'pathlib.Path.glob')
_watchers = []


def _audit(event, arguments):
    if _watchers and event in EVENTS:
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike):
            _watchers[-1](event, os.fsdecode(path))


sys.addaudithook(_audit)        # of this process, for good; it does nothing while nobody watches


@contextmanager
def watched(root, monkeypatch):
    """A list of what is opened, listed and asked for under `root`: (event, path from there)."""
    seen, stat = [], os.stat

    def note(event, path):
        path = os.path.abspath(path)
        if path == str(root) or path.startswith(f'{root}{os.sep}'):
            seen.append((event, os.path.relpath(path, root)))

    def noted_stat(path, *args, **kwargs):
        if isinstance(path, str | bytes | os.PathLike):
            note('stat', os.fsdecode(path))
        return stat(path, *args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'stat', noted_stat)
        _watchers.append(note)
        try:
            yield seen
        finally:
            _watchers.pop()


@pytest.fixture
def made(tmp_path):
    for i in range(60):
        path = tmp_path / 'in' / f'{i % 7}' / f'{i:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), i, np.uint8)).save(path)
    (tmp_path / 'in' / 'broken.jpg').write_text('no image')
    images = find_images(tmp_path / 'in')
    generator = MASK_GENERATORS.build(dict(type='grid', rows=2, cols=2))
    make_masks(images, tmp_path / 'out', generator, workers=1, progress=False)
    return images, tmp_path / 'out'


def test_training_starts_without_a_look_at_the_masks(made, monkeypatch):
    images, out = made
    with watched(out, monkeypatch) as seen:
        store, kept = store_for_training(images, dict(store=str(out)), is_builder=True)
        data = ViewDataset(kept, store, [AugmentedView(size=16)] * 2)
    assert len(kept) == 60
    assert {path for _, path in seen} <= {'masks.json', 'skipped.txt', 'images.npz'}
    assert {event for event, _ in seen} <= {'open', 'stat'}
    with watched(out, monkeypatch) as seen:
        data[0, 5]
    # Python's open, and the system's within it
    assert [path for event, path in seen if event == 'open'] == ['0/35.png'] * 2
    assert {path for _, path in seen} == {'0/35.png'}, 'one sample, one mask'


def test_what_is_watched_is_seen(made, monkeypatch):
    images, out = made
    with watched(out, monkeypatch) as seen:
        find_images(out)
        MaskStore(out).has(images.name(0))
    assert ('os.scandir', '.') in seen and ('stat', '0/00.png') in seen
