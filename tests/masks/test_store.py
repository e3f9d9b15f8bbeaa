"""The mask store: built once, resumable, divisible, and never mixed or half written."""
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.errors import RunFailed, UsageError
from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.masks.find import store_for_training
from densessl.masks.generator import MaskGenerator
from densessl.masks.store import MaskStore
from densessl.pixels.decode import UnreadableImage, read_image

RNG = np.random.default_rng(0)


class Brightness(MaskGenerator):
    """`levels` regions by brightness; says so when it meets black. Runs in this process only."""

    name = 'brightness'

    def __init__(self, *, levels: int = 4) -> None:
        self.levels = levels

    def __call__(self, image):
        if not image.any():
            raise ZeroDivisionError('nothing\nthere')
        labels = image.mean(axis=-1).astype(int) * self.levels // 256
        return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


class Pixels(MaskGenerator):
    """As many regions as there are pixels."""

    name = 'pixels'

    def __call__(self, image):
        return np.arange(image[..., 0].size).reshape(image.shape[:2])


def draw(folder, count=6, shape=(12, 16, 3)):
    for i in range(count):
        path = folder / f'{"abc"[i % 3]}' / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(1, 256, shape, dtype=np.uint8)).save(path)
    return find_images(folder)


def contents(folder):
    """Every file under `folder` with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def names(images):
    return [images.name(i) for i in range(len(images))]


# -- what a store holds ----------------------------------------------------------------------------

def test_the_store_mirrors_the_images(tmp_path):
    images = draw(tmp_path / 'in')
    summary = make_masks(images, tmp_path / 'out', Brightness(levels=3), workers=1)
    assert (summary.made, summary.kept, summary.skipped) == (6, 0, {})
    store = MaskStore(tmp_path / 'out')
    assert store.complete and store.info['masks'] == 6 and store.info['skipped'] == 0
    assert store.info['generator'] == 'brightness' and store.info['parameters'] == {'levels': 3}
    assert store.info['version'] == 1
    assert store.path('a/b.c.jpg') == tmp_path / 'out' / 'a' / 'b.c.png'
    for i, name in enumerate(names(images)):
        assert store.has(name)
        labels = store.read(name)
        assert labels.dtype == np.uint8
        assert (labels == Brightness(levels=3)(read_image(images.path(i)))).all()
    assert not store.has('a/none.png')
    with pytest.raises(UnreadableImage, match=r'none\.png'):
        store.read('a/none.png')


@pytest.mark.parametrize('shape, dtype', [((16, 16), np.uint8), ((16, 17), np.uint16),
                                          ((256, 256), np.uint16)])
def test_many_regions_survive(tmp_path, shape, dtype):
    images = draw(tmp_path / 'in', 1, (*shape, 3))
    make_masks(images, tmp_path / 'out', Pixels(), workers=1, progress=False)
    labels = MaskStore(tmp_path / 'out').read(images.name(0))
    assert labels.dtype == dtype
    assert (labels == np.arange(np.prod(shape)).reshape(shape)).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_mask_is_of_the_displayed_image(tmp_path, orientation):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:4, :11] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / 'in').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'in' / 'x.jpg', exif=exif, quality=100)
    images = find_images(tmp_path / 'in')
    make_masks(images, tmp_path / 'out', Brightness(levels=2), workers=1, progress=False)
    labels = MaskStore(tmp_path / 'out').read('x.jpg')
    image = read_image(images.path(0))
    assert labels.shape == image.shape[:2] == ((20, 30) if orientation < 5 else (30, 20))
    assert ((image[..., 0] > 127) == labels).all() and labels.sum() == 44


def test_what_has_no_mask_is_listed(tmp_path, capsys):
    images = draw(tmp_path / 'in', 3)
    (tmp_path / 'in' / 'a' / 'text.jpg').write_text('no image')
    (tmp_path / 'in' / 'a' / 'tab\tline\n\\n.jpg').write_bytes(b'')
    Image.new('RGB', (5, 5)).save(tmp_path / 'in' / 'black.png')
    Image.fromarray(np.full((300, 300, 3), 9, np.uint8)).save(tmp_path / 'in' / 'large.png')
    images = find_images(tmp_path / 'in')
    make_masks(images, tmp_path / 'out', Brightness(), workers=1)
    assert '4 made, 0 kept, 3 skipped' in capsys.readouterr().err
    store = MaskStore(tmp_path / 'out')
    reasons = {'a/text.jpg': 'not an image, or of an unknown kind',
               'a/tab\tline\n\\n.jpg': 'the file is empty',
               'black.png': 'brightness: ZeroDivisionError: nothing there'}
    assert store.skipped() == reasons and store.info['skipped'] == 3 and store.complete
    _, kept = store_for_training(images, dict(store=str(store.root)), is_builder=True)
    assert names(kept) == [name for name in names(images) if name not in reasons]
    make_masks(images, tmp_path / 'pixels', Pixels(), workers=1)
    assert '65536' not in str(MaskStore(tmp_path / 'pixels').skipped()['a/text.jpg'])
    assert '0..65535' in MaskStore(tmp_path / 'pixels').skipped()['large.png']
    Image.fromarray(RNG.integers(1, 256, (5, 5, 3), dtype=np.uint8)).save(
        tmp_path / 'in' / 'black.png')                     # mended: the next build finds out
    assert make_masks(images, tmp_path / 'out', Brightness(), workers=1).made == 1
    assert set(MaskStore(tmp_path / 'out').skipped()) == set(reasons) - {'black.png'}


def test_no_mask_at_all_is_an_error(tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.jpg').write_text('no image')
    with pytest.raises(UsageError, match=r'none of the 1 images .* a.jpg: not an image'):
        make_masks(find_images(tmp_path / 'in'), tmp_path / 'out', Brightness(), workers=1)
    assert not MaskStore(tmp_path / 'out').complete


# -- refusals --------------------------------------------------------------------------------------

def test_a_store_of_other_masks_is_refused(tmp_path):
    images = draw(tmp_path / 'in', 2)
    make_masks(images, tmp_path / 'out', Brightness(levels=3), workers=1)
    before = contents(tmp_path / 'out')
    newer = type('Newer', (Brightness,), {'version': 2})
    for other in (Brightness(levels=4), Pixels(), newer(levels=3)):
        with pytest.raises(UsageError, match=r'was made with brightness\(levels=3\) version 1, '
                                             r'not .* choose another folder or delete it'):
            make_masks(images, tmp_path / 'out', other, workers=1)
    assert contents(tmp_path / 'out') == before


@pytest.mark.parametrize('out, says', [
    ('in', 'would lie among the images'), ('in/masks', 'would lie among the images'),
    ('full', 'not empty and has no masks.json'), ('full/data.txt', 'cannot write'),
    ('full/data.txt/below', 'cannot write'), ('.', 'not empty'),
])
def test_a_folder_that_cannot_be_a_store_is_refused(tmp_path, out, says):
    images = draw(tmp_path / 'in', 2)
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'data.txt').write_text('mine')
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=says) as error:
        make_masks(images, tmp_path / out, Brightness(), workers=1)
    assert '\n' not in str(error.value) and contents(tmp_path) == before


def test_a_list_may_have_its_masks_beside_it(tmp_path):
    draw(tmp_path / 'in', 2)
    (tmp_path / 'list.txt').write_text('in/a/0.png\nin/b/1.png\n')
    make_masks(find_images(tmp_path / 'list.txt'), tmp_path / 'out', Brightness(), workers=1)
    assert (tmp_path / 'out' / 'in' / 'a' / '0.png').exists()


def test_two_images_that_share_a_mask_are_refused(tmp_path):
    draw(tmp_path / 'in', 2)
    (tmp_path / 'in' / 'a' / '0.jpg').touch()
    with pytest.raises(UsageError, match=r'a/0.jpg and a/0.png .* share the mask a/0.png'):
        make_masks(find_images(tmp_path / 'in'), tmp_path / 'out', Brightness(), workers=1)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('content', ['{"generator": "x"}', '[]', '{', '{"masks": 3}'])
def test_a_damaged_description_is_said(tmp_path, content):
    (tmp_path / 'masks.json').write_text(content)
    with pytest.raises(UsageError, match=r'masks\.json cannot be used'):
        MaskStore(tmp_path)
    with pytest.raises(UsageError, match=r'has no masks\.json'):
        MaskStore(tmp_path / 'none')


def test_a_full_disk_stops_the_build(tmp_path, monkeypatch):
    images = draw(tmp_path / 'in')
    real = Path.write_bytes

    def full(path, data):
        if path.parent.name == 'b':
            raise OSError(28, 'No space left on device')
        return real(path, data)
    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(RunFailed, match=r'cannot write .*the disk is full'):
        make_masks(images, tmp_path / 'out', Brightness(), workers=1)
    monkeypatch.undo()
    assert not MaskStore(tmp_path / 'out').complete
    assert make_masks(images, tmp_path / 'out', Brightness(), workers=1).kept == 2
