"""Any folder, list or JSON of images is a data set, and every file is read as it is displayed."""
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from densessl.data.images import ImageList, UnreadableImage, _listed, find_images, read_image
from densessl.errors import UsageError

WAVES = np.stack([127 + 120 * np.sin(x / 9 + y / (5 + 3 * c)) for c in range(3)
                  for y, x in [np.mgrid[:30, :40]]], axis=-1).astype(np.uint8)   # (30, 40, 3)
PICTURE = Image.fromarray(WAVES)
GREY = np.repeat(np.asarray(PICTURE.convert('L'))[..., None], 3, axis=-1)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(images):
    return [images.name(i) for i in range(len(images))]


# -- finding ---------------------------------------------------------------------------------------

def test_a_folder_is_searched_recursively_in_order(tmp_path):
    root = tmp_path / 'data'
    touch(root / 'b.JPG', root / 'a' / 'x.png', root / 'a' / 'deep' / 'y.jpeg', root / 'notes.md',
          root / '.hidden.jpg', root / '.cache' / 'z.jpg', tmp_path / 'far' / 'w.webp')
    (root / 'linked').symlink_to(tmp_path / 'far')
    (root / 'a' / 'loop').symlink_to(root)
    (root / 'broken.png').symlink_to('nowhere')
    images = find_images(root)
    assert names(images) == ['a/deep/y.jpeg', 'a/x.png', 'b.JPG', 'broken.png', 'linked/w.webp']
    assert images.path(1) == root / 'a' / 'x.png'
    assert len(images) == 5 and images.root == root


def test_names_of_any_bytes_survive(tmp_path):
    odd = [b'\xff\xfe.jpg', 'ü\u2028 \U0001f40c.png'.encode(), b'new\nline\t.png', b' a .jpg']
    for name in odd:
        Path(os.fsdecode(os.fsencode(tmp_path) + b'/' + name)).touch()
    images = find_images(tmp_path)
    assert sorted(os.fsencode(name) for name in names(images)) == sorted(odd)
    assert all(images.path(i).exists() for i in range(len(images)))
    assert names(pickle.loads(pickle.dumps(images))) == names(images)


def test_a_million_names_stay_small():
    listed = [f'n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG'.encode() for i in range(100_000)]
    images = ImageList.of(Path('/data'), Path('/data'), listed)
    assert len(pickle.dumps(images)) < 1.4 * sum(map(len, listed))
    assert images.name(99_999) == listed[-1].decode()
    some = images.select(range(5, 100_000, 1000))
    assert len(some) == 100 and some.name(1) == images.name(1005)
    assert some.digest() != images.digest() == ImageList.of(*[Path('/b')] * 2, listed).digest()
    for i in (100_000, -1):
        with pytest.raises(IndexError):
            images.name(i)


def test_a_list_of_paths(tmp_path):
    touch(tmp_path / 'p' / 'a b.jpg', tmp_path / 'p' / 'c.png')
    source = tmp_path / 'list.txt'
    source.write_bytes(b'\xef\xbb\xbfp/c.png\r\n\r\n' + f'{tmp_path}/p/a b.jpg\np/c.png\n'.encode())
    images = find_images(source)
    assert images.root == tmp_path and names(images) == ['p/c.png', 'p/a b.jpg']


def test_a_list_of_paths_elsewhere(tmp_path):
    touch(tmp_path / 'p' / 'a.jpg', tmp_path / 'q' / 'b.jpg', tmp_path / 'lists' / 'x')
    source = tmp_path / 'lists' / 'all.txt'
    source.write_text(f'../p/a.jpg\n{tmp_path}/q/b.jpg\n')
    images = find_images(source)
    assert images.root == tmp_path and names(images) == ['p/a.jpg', 'q/b.jpg']

def test_lists_agree_with_taking_one_path_at_a_time(tmp_path):
    """Whatever mixture of relative, absolute, outside and repeated paths a list holds."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'list'
    heads = ['', './', 'a/', 'a/b/', 'a/b-x/', 'a//b/', 'a/../', '..a/', '../', '../list/',
             f'{tmp_path}/', f'{folder}/', f'{folder}/a/', '/']
    for _ in range(300):
        some = rng.choice(heads, size=rng.integers(1, 4))
        paths = [f'{rng.choice(some)}{rng.integers(5)}.jpg' for _ in range(rng.integers(1, 9))]
        full = list(dict.fromkeys(os.path.normpath(folder / path) for path in paths))
        root = str(folder)
        if not all(path.startswith(f'{root}/') for path in full):
            root = os.path.commonpath([os.path.dirname(path) for path in full])
        images = _listed(folder / 'list.txt', folder, paths)
        assert str(images.root) == root, paths
        assert [str(images.path(i)) for i in range(len(images))] == full, paths


@pytest.mark.parametrize('file, folder', [
    ('annotations/instances_train2017.json', 'train2017'),
    ('annotations/instances_train2017.json', 'images/train2017'),
    ('train.json', '.'),
    ('train.json', 'images'),
    ('train/_annotations.coco.json', 'train'),
])
def test_a_json_finds_its_images(tmp_path, file, folder):
    touch(tmp_path / 'val2017' / 'other.jpg', tmp_path / folder / '1.jpg', tmp_path / file)
    entries = [{'id': 1, 'file_name': '1.jpg'}, {'id': 2, 'file_name': 'sub/2.jpg'}]
    (tmp_path / file).write_text(json.dumps({'images': entries}))
    images = find_images(tmp_path / file)
    assert images.path(0) == tmp_path / folder / '1.jpg' and images.path(0).exists()
    assert names(images) == ['1.jpg', 'sub/2.jpg']


def test_a_json_prefers_the_split_in_its_name(tmp_path):
    for split in ('train', 'val'):
        touch(tmp_path / split / '1.jpg')
    source = tmp_path / 'annotations' / 'val.json'
    touch(source)
    source.write_text('{"images": [{"file_name": "1.jpg"}]}')
    assert find_images(source).root == tmp_path / 'val'


@pytest.mark.parametrize('name, content, says', [
    ('missing', None, 'no such folder'),
    ('empty/', None, r'no images in .*\.jpeg'),
    ('picture.jpg', '', 'a folder, a .txt file of paths or a COCO .json'),
    ('l.txt', '\n', 'names no images'),
    ('l.txt', 'a.jpg 0\n', 'one path a line'),
    ('l.json', '{"annotations": []}', "images"),
    ('l.json', '{"images": []}', 'empty'),
    ('l.json', '{"images": [{"id": 3}]}', 'file_name'),
    ('l.json', '[1, 2', 'not a JSON file of images'),
    ('l.json', '{"images": [{"file_name": "a.jpg"}]}', "'a.jpg', which is in none of"),
])
def test_what_is_no_data_set_is_said(tmp_path, name, content, says):
    if name.endswith('/'):
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=says) as error:
        find_images(tmp_path / name)
    assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


# -- reading ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('extension', ['jpg', 'png', 'tif', 'webp'])
def test_every_orientation_is_displayed(tmp_path, extension):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f'{orientation}.{extension}'
        PICTURE.save(path, exif=exif, quality=98)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert('RGB'))
        pixels = read_image(path)
        assert pixels.shape == expected.shape and pixels.flags.c_contiguous
        assert np.abs(pixels.astype(int) - expected).max() <= 4     # two decoders of one JPEG
        tall = orientation >= 5
        assert pixels.shape == ((40, 30, 3) if tall else (30, 40, 3))


def deep(array):
    return array.astype(np.uint16) * 257


def opencv(array):
    return lambda path: cv2.imwrite(str(path), array if array.ndim == 2 else array[..., ::-1])


def pillow(image, **options):
    return lambda path: image.save(path, **options)


def animation(**options):
    return pillow(PICTURE, save_all=True, append_images=[ImageOps.invert(PICTURE)], **options)


KINDS = {
    'rgb.png': (pillow(PICTURE), WAVES, 0), 'rgb.jpg': (pillow(PICTURE, quality=98), WAVES, 30),
    'rgb.webp': (pillow(PICTURE, lossless=True), WAVES, 0), 'rgb.bmp': (pillow(PICTURE), WAVES, 0),
    'rgb.tif': (pillow(PICTURE), WAVES, 0), 'rgb.jp2': (pillow(PICTURE), WAVES, 0),
    'grey.jpg': (pillow(PICTURE.convert('L'), quality=98), GREY, 30),
    'grey.png': (pillow(PICTURE.convert('L')), GREY, 0),
    'cmyk.jpg': (pillow(PICTURE.convert('CMYK'), quality=98), WAVES, 30),
    'palette.png': (pillow(PICTURE.quantize(256)),
                    np.asarray(PICTURE.quantize(256).convert('RGB')), 0),
    'bits.png': (pillow(PICTURE.convert('1')), np.asarray(PICTURE.convert('1').convert('RGB')), 0),
    'grey16.png': (opencv(deep(GREY[..., 0])), GREY, 0),
    'grey16.tif': (opencv(deep(GREY[..., 0])), GREY, 0),
    'rgb16.png': (opencv(deep(WAVES)), WAVES, 0), 'rgb16.tif': (opencv(deep(WAVES)), WAVES, 0),
    'animated.gif': (animation(), WAVES, 64), 'animated.png': (animation(), WAVES, 0),
    'animated.webp': (animation(lossless=True), WAVES, 0), 'two.mpo': (animation(), WAVES, 40),
}


@pytest.mark.parametrize('name', KINDS)
def test_every_kind_of_file_is_read(tmp_path, name):
    save, expected, tolerance = KINDS[name]
    save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_transparency_lies_on_white(tmp_path):
    alpha = np.full((30, 40), 255, np.uint8)
    alpha[:, :20] = 0
    Image.fromarray(np.dstack([WAVES, alpha])).save(tmp_path / 'rgba.png')
    Image.fromarray(np.dstack([GREY[..., 0], alpha])).save(tmp_path / 'la.png')
    corner = tuple(int(value) for value in WAVES[0, 0])
    PICTURE.save(tmp_path / 'key.png', transparency=corner)
    for name, opaque in [('rgba.png', WAVES), ('la.png', GREY)]:
        pixels = read_image(tmp_path / name)
        assert (pixels[:, :20] == 255).all() and (pixels[:, 20:] == opaque[:, 20:]).all()
    assert (read_image(tmp_path / 'key.png')[0, 0] == 255).all()


@pytest.mark.parametrize('shape', [(1, 1, 3), (10, 20000, 3), (20000, 10, 3)])
def test_extreme_shapes(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'x.png')
    assert (read_image(tmp_path / 'x.png') == pixels).all()


def test_damaged_metadata_hides_no_image(tmp_path):
    PICTURE.save(tmp_path / 'x.jpg')
    data = (tmp_path / 'x.jpg').read_bytes()
    exif = b'Exif\0\0II*\0' + b'\xff' * 16
    (tmp_path / 'x.jpg').write_bytes(data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2)
                                     + exif + data[2:] + b'\0' * 9)     # and padding at the end
    assert read_image(tmp_path / 'x.jpg').shape == WAVES.shape


def bomb(side):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I',
                                                                        zlib.crc32(kind + data))
    header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(bytes(99))) + chunk(b'IEND', b''))


def test_what_cannot_be_read_is_named(tmp_path):
    PICTURE.save(tmp_path / 'a.jpg')
    PICTURE.save(tmp_path / 'a.png')
    jpeg, png = (tmp_path / 'a.jpg').read_bytes(), (tmp_path / 'a.png').read_bytes()
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xff
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'folder.jpg').mkdir()
    cv2.imwrite(str(tmp_path / 'float.tif'), np.zeros((4, 4, 3), np.float32))
    files = {'most.jpg': jpeg[:-100], 'most.png': png[:-60], 'flipped.png': flipped,
             'text.jpg': b'no image', 'zero.jpg': b'', 'bomb.png': bomb(60_000),
             'script.jpg': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    reasons = {'most.jpg': 'truncated', 'most.png': 'truncated', 'flipped.png': 'data stream',
               'text.jpg': 'not an image', 'zero.jpg': 'empty', 'bomb.png': 'bomb',
               'script.jpg': 'not an image', 'link.jpg': 'does not exist', 'float.tif': 'float32',
               'folder.jpg': 'directory', 'gone.jpg': 'No such file'}
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage, match=reason) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)
        assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
