"""`make_shards` as it is typed, and `make_masks` on what it wrote."""
from __future__ import annotations

import cv2
import pytest
from tar_samples import draw, masked, numbered

from densessl.cli import main
from densessl.commands.make_shards import _bytes
from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.masks.generator import MaskStore


@pytest.fixture
def folder(tmp_path):
    masked(tmp_path / 'masks', draw(tmp_path / 'in', numbered(20)))
    return tmp_path


def write(folder, *more):
    return main(['make_shards', str(folder / 'in'), str(folder / 'out'), *map(str, more)])


def test_it_says_what_it_does(folder, capsys):
    (folder / 'in' / 'empty.jpg').touch()
    assert write(folder, '--shard-size', '30KB') == 0
    said = capsys.readouterr().out
    assert f'21 images in {folder / "in"}, into shards of at most 30KB in {folder / "out"}' in said
    count = len(list((folder / 'out').glob('*.tar')))
    assert f'{count} shards with 20 images' in said and f'{count} written, 0 kept, 1 images' in said
    assert 'skipped empty.jpg: the file is empty' in said
    assert main(['make-shards', str(folder / 'in'), str(folder / 'out'), '--shard-size',
                 '30000']) == 0
    assert f'0 written, {count} kept' in capsys.readouterr().out


@pytest.mark.parametrize('text, size', [('1GB', 10 ** 9), ('2GiB', 2 ** 31), ('1.5 mb', 1_500_000),
                                        ('512', 512), ('64K', 64_000), ('7b', 7)])
def test_sizes(text, size):
    assert _bytes(text) == size


@pytest.mark.parametrize('text', ['', 'GB', '1XB', '-1GB', '1 i', '0x10', '1IB', 'inf'])
def test_no_sizes(text):
    with pytest.raises(UsageError, match='--shard-size takes'):
        _bytes(text)


@pytest.mark.parametrize('arguments, says', [
    (['--shard-size', 'big'], "not 'big'"), (['--shard-size', '1KB'], 'are too small'),
    (['--masks', 'nowhere'], 'nowhere is not a mask store'), (['--workers', '0'], 'at least 1')])
def test_wrong_words_get_one_line(folder, arguments, says, capsys):
    assert write(folder, *arguments) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('densessl make_shards: ') and says in line
    assert not (folder / 'out').exists()


def test_masks_of_shards_are_made_checked_and_shown(folder, capsys):
    out, store = folder / 'out', folder / 'masks2'
    assert write(folder, '--masks', folder / 'masks') == 0
    assert main(['make_masks', str(out), str(store), '--generator', 'grid', '--workers', '2']) == 0
    images = find_images(out)
    assert MaskStore(store).read(images.name(9)).shape == images.size(9)
    capsys.readouterr()
    for masks in (store, out):
        assert main(['make_masks', str(out), str(masks), '--check']) == 0
        assert '20 of 20 images are right' in capsys.readouterr().out
    assert main(['make_masks', str(out), str(out), '--preview', '3']) == 0
    assert 'masks by halves' in capsys.readouterr().out
    assert cv2.imread(str(folder / 'out.preview.jpg')).std() > 20
    with images.path(9).open('r+b') as file:
        file.seek(images.entries[9, 3] + 40)
        file.write(b'damage')
    assert main(['make_masks', str(out), str(out), '--check']) == 1
    said = capsys.readouterr().out
    assert f'000000.tar: mask of {images.name(9)}' in said and 'write the shards again' in said


def test_masks_do_not_go_among_the_shards(folder, capsys):
    assert write(folder) == 0
    assert main(['make_masks', str(folder / 'out'), str(folder / 'out'), '--generator',
                 'grid']) == 2
    assert 'choose a folder beside it' in capsys.readouterr().err
