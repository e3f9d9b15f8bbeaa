"""Names in archives, indexes and lists stay in their folder, as does what is written by them."""
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images.test_tar_foreign import label_map, pack, picture
from tar_samples import draw, masked

from densessl.cli import main
from densessl.errors import UsageError
from densessl.finetune import predict
from densessl.images import tar_index
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.images.image_names import check_names, is_inside, is_inside_anywhere
from densessl.images.tar_layout import MAX_MAPS
from densessl.pixels.pixel_rule import PLAIN
from densessl.shards.write import make_shards
from densessl.transfer.prediction import Prediction


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))


OUTSIDE = ['../x.jpg', 'a/../../x.jpg', '/tmp/x.jpg', 'C:\\x.jpg', 'c:/x.jpg', '\\\\host\\x.jpg',
           '..\\b/x.jpg', '..//x.jpg', './../x.jpg', 'a/../x.jpg']


def files_in(folder):
    return set(folder.rglob('*'))


@pytest.mark.parametrize('name', OUTSIDE)
@pytest.mark.parametrize('command', ['make_masks', 'make_shards', 'predict', 'make_masks --check'])
def test_no_command_goes_by_a_members_name_out_of_its_folder(name, command, tmp_path, capsys,
                                                              monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'deep' / 'out').mkdir(parents=True)
    pack(tmp_path / 'in' / 's.tar', {'good.jpg': picture(0), name: picture(1)})
    (tmp_path / 'run').mkdir()
    before = files_in(tmp_path)
    program, *more = command.split()
    words = {'make_masks': ['in', 'deep/out', '--generator', 'grid', '--workers', '1', *more],
             'make_shards': ['in', 'deep/out'],
             'predict': ['run', 'in', '--out', 'deep/out']}[program]
    assert main([program, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 's.tar names an image' in error and 'it must lead from its folder inwards' in error
    assert files_in(tmp_path) == before


@pytest.mark.parametrize('name', [*OUTSIDE[:9], 'a\0.jpg', '..\\x.jpg', 'a/..\\..\\x.jpg',
                                  '\ud800.jpg', '/etc/passwd'])
def test_a_coco_json_names_images_in_its_folder(name, tmp_path):
    draw(tmp_path, ['a.jpg'])
    source = tmp_path / 'all.json'
    source.write_text(json.dumps({'images': [{'file_name': one} for one in ('a.jpg', name)]}))
    with pytest.raises(UsageError, match=r'all\.json names an image') as error:
        find_images(source)
    assert str(error.value).isprintable()


def test_names_that_stay_inside_are_taken(tmp_path):
    images = draw(tmp_path, ['a.jpg', 'a..b.jpg', '..a/c.jpg', 'd/e...jpg', 'f:g\\h.jpg'])
    assert len(images) == 4     # hidden folders do not count
    source = tmp_path / 'all.json'
    source.write_text(json.dumps({'images': [{'file_name': one} for one in (
        './a.jpg', 'a..b.jpg', 'x/../..a/c.jpg')]}))
    assert [find_images(source).name(i) for i in range(3)] == ['a.jpg', 'a..b.jpg', '..a/c.jpg']
    pack(tmp_path / 't' / 's.tar', {'./a//b/./c.jpg': picture(0)})
    assert find_images(tmp_path / 't').name(0) == 's/a/b/c.jpg'


def test_a_users_own_list_may_name_any_place(tmp_path):
    draw(tmp_path, ['p/a.jpg', 'q/b.jpg'])
    (tmp_path / 'lists').mkdir()
    source = tmp_path / 'lists' / 'all.txt'
    source.write_text(f'../p/a.jpg\n{tmp_path}/q/b.jpg\n')
    masked(tmp_path / 'masks', find_images(source))
    assert files_in(tmp_path / 'masks') >= {tmp_path / 'masks/p/a.png', tmp_path / 'masks/q/b.png'}


names = st.lists(st.sampled_from(['a', '..', '.', '', 'b.jpg', '..c', 'd\0', 'e\\', '..\\f', 'C:']),
                 min_size=1, max_size=4).map('/'.join)


@settings(deadline=None, derandomize=True)
@given(st.lists(names, min_size=1, max_size=6), st.booleans())
def test_a_list_is_checked_as_each_of_its_names(some, foreign):
    raw = [os.fsencode(name) for name in some]
    ends = np.concatenate([[0], np.cumsum([len(name) for name in raw])])
    good = all(name and (is_inside_anywhere if foreign else is_inside)(name) for name in some)
    try:
        check_names(b''.join(raw), ends, 'list', foreign=foreign)
    except UsageError:
        assert not good
    else:
        assert good
        assert all(os.path.normpath(f'/x/{name}').startswith('/x/') for name in some)


# -- indexes that others wrote ---------------------------------------------------------------------

@pytest.fixture
def shards(tmp_path):
    images = draw(tmp_path / 'in', ['a.jpg', 'b.jpg'])
    make_shards(images, tmp_path / 'out', masks=masked(tmp_path / 'm', images).root,
                progress=False)
    return tmp_path / 'out'


def reindexed(folder, **changes):
    """Write ``index.npz`` with other arrays, and the digest that belongs to them."""
    with np.load(folder / 'index.npz') as content:
        arrays = {**content, **changes}
    np.savez(folder / 'index.npz', **arrays)
    info = json.loads((folder / 'shards.json').read_text())
    info['digest'] = ImageList(folder, folder, arrays['names'].tobytes(), arrays['ends']).digest()
    (folder / 'shards.json').write_text(json.dumps(info))


@pytest.mark.parametrize('name', ['../x/', '/tmp/x', 'a/../x', 'a\0bcd', 'a//bcd', './abcd'])
def test_an_index_names_images_in_its_folder(name, shards):
    raw = (name + 'y' * 8).encode()
    reindexed(shards, names=np.frombuffer(raw + b'b.jpg', np.uint8),
              ends=np.array([0, len(raw), len(raw) + 5]))
    with pytest.raises(UsageError, match='names an image'):
        find_images(shards)


@pytest.mark.parametrize('change', [
    {'entries': np.array([[0, 0, 10, 0, 5], [7, 0, 10, 0, 5]])},
    {'entries': np.array([[0, 0, 10, 0, 5], [0, 0, 2 ** 62, 0, 5]])},
    {'entries': np.array([[0, 0, 10, 0, 5], [0, -4, 10, 0, 5]])},
    {'entries': np.array([[0, 0, 10, 0, 5]])}, {'entries': np.zeros((2, 4), np.int64)},
    {'entries': np.zeros((2, 5), np.float64)}, {'entries': np.zeros((2, 5 + 2 * MAX_MAPS), int)},
    {'ends': np.array([0, 9, 5])}, {'ends': np.array([0, 5, 2 ** 40])}, {'ends': np.array([0, 5])},
    {'names': np.zeros(10, np.int64)}, {'entries': np.zeros((2, 3), np.int64)},
])
def test_an_index_fits_its_shards(change, shards):
    reindexed(shards, **change)
    with pytest.raises(UsageError, match=r'index\.npz cannot be used') as error:
        find_images(shards)
    assert '\n' not in str(error.value)


def test_a_packed_index_is_not_unpacked(shards):
    with np.load(shards / 'index.npz') as content:
        arrays = {**content, 'entries': np.zeros((10 ** 6, 5), np.int64)}
    np.savez_compressed(shards / 'index.npz', **arrays)
    with pytest.raises(UsageError, match='it is packed'):
        find_images(shards)


@pytest.mark.parametrize('file', ['../in/a.jpg', '/etc/passwd', 'a/b.tar', '', 5, None, '..'])
def test_a_shard_lies_beside_its_index(file, shards):
    info = json.loads((shards / 'shards.json').read_text())
    info['shards'][0]['file'] = file
    (shards / 'shards.json').write_text(json.dumps(info))
    with pytest.raises(UsageError, match='the name of a file beside it'):
        find_images(shards)


def test_one_members_number_does_not_widen_the_index(tmp_path):
    pack(tmp_path / 's.tar', {
        **{f'{i}.jpg': picture(i) for i in range(3)}, '0.0.mask.png': label_map(3),
        '0.1.mask.png': label_map(3), '1.9999.mask.png': label_map(3),
        '2.3.mask.png': label_map(3)})
    images = find_images(tmp_path / 's.tar')
    assert images.entries.shape == (3, 3 + 2 * 2)
    assert list(images.masks().having(images)) == [0]
    pack(tmp_path / 'many.tar', {'0.jpg': picture(0), **{
        f'0.{which}.mask.png': b'x' for which in range(MAX_MAPS + 40)}})
    assert find_images(tmp_path / 'many.tar').entries.shape == (1, 3 + 2 * MAX_MAPS)


@pytest.mark.parametrize('position', [0.02, 0.3, 0.5, 0.7, 0.98])
def test_a_flipped_byte_in_an_index_is_one_line(position, shards):
    data = bytearray((shards / 'index.npz').read_bytes())
    data[int(position * len(data))] ^= 0xff
    (shards / 'index.npz').write_bytes(bytes(data))
    try:
        assert len(find_images(shards)) == 2
    except UsageError as error:
        assert '\n' not in str(error)


# -- what is written by name -----------------------------------------------------------------------

@pytest.fixture
def model(monkeypatch, tmp_path):
    """A fine-tuned model that finds nothing."""
    found = predict.Finetuned(tmp_path / 'iter_1.pth', tmp_path / 'c.py', lambda image: Prediction(
        np.zeros(image.shape[:2], int)), ['ground'], [(0, 0, 0)], PLAIN)
    monkeypatch.setattr(predict, 'open_finetuned', lambda path: found)


def test_pictures_stay_in_their_folder(model, tmp_path, capsys):
    draw(tmp_path / 'in', ['a/x.jpg', 'b/y.jpg'])
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'b').symlink_to(tmp_path / 'elsewhere')
    words = ['predict', 'run', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]
    assert main(words) == 2
    error, = capsys.readouterr().err.strip().splitlines()
    assert "its folder 'b' is a link to" in error and 'remove the link' in error
    assert not list((tmp_path / 'elsewhere').iterdir()) and not (tmp_path / 'out' / 'a').exists()
    (tmp_path / 'out' / 'b').unlink()
    assert main(words) == 0
    assert {path.relative_to(tmp_path / 'out').as_posix() for path in files_in(tmp_path / 'out')
            if path.is_file()} == {'a/x.png', 'b/y.png'}


def test_a_link_in_the_place_of_a_picture_is_replaced_not_followed(model, tmp_path):
    draw(tmp_path / 'in', ['x.jpg'])
    (tmp_path / 'precious').write_text('keep')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'x.png').symlink_to(tmp_path / 'precious')
    assert main(['predict', 'run', str(tmp_path / 'in'), '--out', str(tmp_path / 'out'),
                 '--overwrite']) == 0
    assert (tmp_path / 'precious').read_text() == 'keep'
    assert not (tmp_path / 'out' / 'x.png').is_symlink()


def test_a_link_to_itself_has_no_picture_and_the_others_have(model, tmp_path, capsys):
    draw(tmp_path / 'in', ['x.jpg'])
    (tmp_path / 'in' / 'loop.jpg').symlink_to('loop.jpg')
    assert main(['predict', 'run', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    assert 'loop.jpg' in capsys.readouterr().err
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['x.png']


def test_two_images_do_not_share_a_picture(model, tmp_path, capsys):
    draw(tmp_path / 'in', ['a.jpg', 'a.png', 'a.jpg.jpg'])
    assert main(['predict', 'run', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 2
    assert 'several images of' in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_a_picture_may_have_the_longest_name(model, tmp_path):
    name = 'n' * 251
    draw(tmp_path / 'in', [f'{name}.jpg'])
    assert main(['predict', 'run', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    assert (tmp_path / 'out' / f'{name}.png').is_file()


def test_masks_stay_in_their_store(tmp_path):
    images = draw(tmp_path / 'in', ['a/x.jpg', 'b/y.jpg'])
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks' / 'b').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(UsageError, match=r'is a link to .*elsewhere, outside of it'):
        masked(tmp_path / 'masks', images)
    assert not list((tmp_path / 'elsewhere').iterdir())


def test_a_kept_index_is_checked_like_any_other(tmp_path):
    pack(tmp_path / 's.tar', {'a.jpg': picture(0)})
    find_images(tmp_path / 's.tar')
    kept, = (tmp_path / 'cache' / 'shards').iterdir()
    with np.load(kept) as content:
        arrays = {**content, 'entries': np.array([[3, 0, 5]])}
    np.savez(kept, **arrays)
    assert find_images(tmp_path / 's.tar').entries[0, 0] == 0, 'indexed again'
    assert tar_index.is_written(tmp_path) is False
