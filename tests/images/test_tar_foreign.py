"""Tar files that others wrote: indexed once, whatever their headers; one line for what is no shard.
"""
from __future__ import annotations

import gzip
import io
import os
import tarfile

import cv2
import numpy as np
import pytest
from tar_samples import draw, names_of, numbered

from densessl.errors import UsageError
from densessl.images import tar_index
from densessl.images.find import find_images
from densessl.labels.class_labels import class_labels
from densessl.masks.find import store_for_training
from densessl.masks.tar_masks import masks_beside
from densessl.shards.write import make_shards


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def picture(seed, kind='.jpg'):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


def label_map(last):
    return cv2.imencode('.png', np.arange(600).reshape(20, 30).astype(np.uint8) % last)[1].tobytes()


def pack(path, members, format=tarfile.PAX_FORMAT, mode='w'):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=format) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


MEMBERS = {
    '.': None, './b': None, './b/0002.jpg': picture(2), './b/0002.cls': b'7', './b/0001.JPEG':
    picture(1), './b/0001.json': b'{}', './.hidden.jpg': picture(9), './b/._0002.jpg': b'Mac',
    './README': b'text', './x' * 40 + '.é.seg.png': picture(8), 'c.seg.png': picture(4, '.png'),
    'c.png': picture(5, '.png'), 'c.jpg': picture(3), 'd.json': b'{}', 'e.tif': b'no picture',
    'l.jpg': './b/0002.jpg', 'n' * 300 + '.png': picture(6, '.png')}
NAMES = ['000/b/0002.jpg', '000/b/0001.JPEG', '000/c.jpg', '000/e.tif', f'000/{"n" * 300}.png']


@pytest.mark.parametrize('format', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_samples_are_found_in_their_order(tmp_path, format, capsys):
    pack(tmp_path / 'in' / '000.tar', MEMBERS, format)
    pack(tmp_path / 'in' / '001.tar', {'b/0002.jpg': picture(7)}, format)
    images = find_images(tmp_path / 'in')
    assert names_of(images) == [*NAMES, '001/b/0002.jpg'] and masks_beside(images) is None
    assert [images.data(i) for i in (0, 1, 2, 5)] == [picture(i) for i in (2, 1, 3, 7)]
    assert images.read(0).shape == (20, 30, 3) and images.size(4) == (20, 30)
    said = capsys.readouterr().err
    assert 'indexing 2 tar files' in said and '1 samples have several images: a JPEG' in said
    assert '1 links in the tar files are left out' in said
    assert '1 label maps without an image are left out' in said     # x.é.seg.png
    assert 'dots' not in said


def test_images_with_dots_in_their_names(tmp_path, capsys):
    shots = {'Shot 10.12.33.jpg': picture(0), 'Shot 10.15.07.JPG': picture(1),
             'b/v1.0.png': picture(2, '.png'), 'c.seg.png': label_map(3), 'c.jpg': picture(4),
             'd.rgb.jpg': picture(5), 'd.depth.png': label_map(9), 'e.x.json': b'{}'}
    images = find_images(pack(tmp_path / 'in' / '0.tar', shots))
    assert names_of(images) == ['0/Shot 10.12.33.jpg', '0/Shot 10.15.07.JPG', '0/b/v1.0.png',
                                '0/c.jpg', '0/d.rgb.jpg']
    assert [images.data(i) for i in (0, 1, 4)] == [picture(i) for i in (0, 1, 5)]
    said = capsys.readouterr().err
    assert '4 images have several dots in their names' in said
    assert 'samples have several images' not in said, 'labels and depth are fields'
    fields = {f'{key}.{field}.png': picture(1, '.png') for key in 'ab' for field in
              ('depth', 'rgb', 'normal')}
    assert names_of(find_images(pack(tmp_path / 'f' / '0.tar', fields))) == [
        '0/a.rgb.png', '0/b.rgb.png']
    with pytest.raises(UsageError, match=r'no images .* besides 2 label maps \(looked for'):
        find_images(pack(tmp_path / '1.tar', {'a.seg.png': label_map(2), 'b.gt.png': b''}))


def test_they_are_indexed_once(tmp_path, monkeypatch, capsys):
    path = pack(tmp_path / 'in' / '000.tar', MEMBERS)
    first = find_images(tmp_path / 'in')
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, 'read_samples', None)
        again = find_images(tmp_path / 'in')
    assert again.digest() == first.digest() and (again.entries == first.entries).all()
    assert capsys.readouterr().err == ''
    pack(path, {'new.jpg': picture(0)})
    assert names_of(find_images(tmp_path / 'in')) == ['000/new.jpg']


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch, capsys):
    pack(tmp_path / 'in' / '000.tar', MEMBERS)
    (tmp_path / 'file').touch()
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'file'))
    assert names_of(find_images(tmp_path / 'in')) == NAMES
    assert 'indexed again the next time, unless $DENSESSL_CACHE names' in capsys.readouterr().err


def test_a_single_file_is_a_source(tmp_path):
    path = pack(tmp_path / 'in' / '000.tar', MEMBERS)
    images = find_images(path)
    assert names_of(images) == NAMES and images.source == path
    assert images.data(0) == picture(2)


def test_a_single_file_of_ours_keeps_its_names(tmp_path):
    whole = draw(tmp_path / 'in', [*numbered(40), 'b/x.y.jpg'])
    make_shards(whole, tmp_path / 'out', shard_size=110_000, progress=False)
    some = find_images(tmp_path / 'out' / '000001.tar')
    start = names_of(whole).index(some.name(0))
    assert 1 < len(some) < 40 and start > 0
    assert names_of(some) == names_of(whole)[start:start + len(some)]
    assert some.data(1) == whole.data(start + 1)
    (tmp_path / 'out' / 'shards.json').unlink()          # the tar files alone were copied
    foreign = find_images(tmp_path / 'out')
    assert len(foreign) == len(whole) and foreign.data(0) == whole.data(0)
    assert foreign.name(0) == f'000000/{whole.name(0)}'


def test_label_maps_of_unknown_making_are_used_when_named(tmp_path, capsys):
    pack(tmp_path / 'in' / '0.tar', {
        'a.0.mask.png': label_map(4), 'a.jpg': picture(0), 'a.1.mask.png': label_map(5),
        'b.jpg': picture(1), 'b.0.mask.png': label_map(3), 'c.jpg': picture(2)})
    images = find_images(tmp_path / 'in')
    with pytest.raises(UsageError, match=r'made with an unknown generator, not grid\('):
        store_for_training(images, dict(type='grid'), is_builder=True)
    masks, kept = store_for_training(images, dict(store=str(tmp_path / 'in')), is_builder=True)
    assert masks.maps == 2 and names_of(kept) == ['0/a.jpg']
    assert '2 of 3 images have no mask' in capsys.readouterr().err
    assert [masks.read(0, which).max() for which in range(2)] == [3, 4]


def test_shards_are_no_classes(tmp_path):
    for i in range(2):
        pack(tmp_path / 'in' / f'{i}.tar', {'a.jpg': picture(i), 'b.jpg': picture(i)})
    images = find_images(tmp_path / 'in')
    with pytest.raises(UsageError, match='no class folders'):
        class_labels(images)
    with pytest.raises(UsageError, match='no class folders'):
        class_labels(images.select([0, 2]))


def test_images_in_the_folder_come_first(tmp_path):
    pack(tmp_path / 'in' / '000.tar', MEMBERS)
    (tmp_path / 'in' / 'a.jpg').write_bytes(picture(0))
    assert names_of(find_images(tmp_path / 'in')) == ['a.jpg']


# -- what is no shard -----------------------------------------------------------------------------

def test_compressed_files_are_refused(tmp_path, capsys):
    for source in (tmp_path / 'in', tmp_path / 'in' / '000.tar.gz', tmp_path / 'in' / '001.tgz'):
        for name in ('000.tar.gz', '001.tgz'):
            pack(tmp_path / 'in' / name, MEMBERS, mode='w:gz')
        with pytest.raises(UsageError, match=r'is compressed, .*decompress') as error:
            find_images(source)
        assert '\n' not in str(error.value)
    pack(tmp_path / 'in' / '002.tar', {'a.jpg': picture(0)})
    assert names_of(find_images(tmp_path / 'in')) == ['002/a.jpg']
    assert '2 compressed tar files' in capsys.readouterr().err


def content():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w') as tar:
        for i in range(3):
            member = tarfile.TarInfo(f'{i}.png')
            member.size = len(picture(i, '.png'))
            tar.addfile(member, io.BytesIO(picture(i, '.png')))
    return stream.getvalue()


BIG = len(picture(0, '.png')) // 512 * 512


@pytest.mark.parametrize('padding', [b'', bytes(512), bytes(3 << 20)])
@pytest.mark.parametrize('format', [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_joined_archives_are_read_to_their_end(tmp_path, padding, format, capsys):
    """``cat a.tar b.tar empty.tar c.tar``: tar itself stops after the first."""
    parts = [{f'{letter}{i}.png': picture(i, '.png') for i in range(3)} for letter in 'ab']
    parts += [{}, {'c' * 150 + 'é.jpg': picture(7)}]
    joined = b''
    for i, members in enumerate(parts):
        pack(tmp_path / f'{i}.tar', members, format=format)
        joined += (tmp_path / f'{i}.tar').read_bytes() + padding
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'all.tar').write_bytes(joined)
    images = find_images(tmp_path / 'in')
    expected = {f'all/{name}': data for members in parts for name, data in members.items()}
    assert {images.name(i): images.data(i) for i in range(len(images))} == expected
    (tmp_path / 'in' / 'all.tar').write_bytes(joined + b'x' * 512)
    with pytest.raises(UsageError, match=f'there is no header at byte {len(joined)}'):
        find_images(tmp_path / 'in')


def test_of_a_name_that_comes_twice_the_last_counts_and_it_is_said(tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    for i in range(2):
        pack(tmp_path / f'{i}.tar', {'a.jpg': picture(i), 'a.mask.png': picture(i, '.png'),
                                     f'{i}.jpg': picture(5)})
    (tmp_path / 'in' / 'x.tar').write_bytes((tmp_path / '0.tar').read_bytes()
                                            + (tmp_path / '1.tar').read_bytes())
    images = find_images(tmp_path / 'in')
    assert names_of(images) == ['x/a.jpg', 'x/0.jpg', 'x/1.jpg']
    assert images.data(0) == picture(1)
    assert '2 members repeat an earlier name' in capsys.readouterr().err


@pytest.mark.parametrize('data, says', [
    (b'', 'damaged or not a tar file'),
    (b'hello' * 500, 'damaged or not a tar file'),
    (gzip.compress(content()), 'damaged or not a tar file'),
    (content()[:BIG], 'unexpected end of data'),                       # within an image
    (content()[:BIG + 1024 + 100], 'there is no header at byte'),      # within a header
    (content()[:BIG + 1024] + b'x' * 4096, 'there is no header at byte'),
    (content()[:0] + bytes(10240), 'no images in the 1 tar files'),
])
def test_a_damaged_file_is_named(tmp_path, data, says):
    (tmp_path / 'in').mkdir()
    pack(tmp_path / 'in' / '000.tar', {'a.jpg': picture(0)} if 'no images' not in says else {})
    (tmp_path / 'in' / '001.tar').write_bytes(data)
    if 'no images' in says:
        os.unlink(tmp_path / 'in' / '000.tar')
    with pytest.raises(UsageError, match=says) as error:
        find_images(tmp_path / 'in')
    assert '\n' not in str(error.value) and str(tmp_path / 'in') in str(error.value)
    assert not (tmp_path / 'cache').exists(), 'an index of what cannot be read'
