"""Every file is read as it is displayed, and what cannot be read is named."""
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from densessl.pixels.decode import UnreadableImage, open_image, read_image

WAVES = np.stack([127 + 120 * np.sin(x / 9 + y / (5 + 3 * c)) for c in range(3)
                  for y, x in [np.mgrid[:30, :40]]], axis=-1).astype(np.uint8)   # (30, 40, 3)
PICTURE = Image.fromarray(WAVES)
GREY = np.repeat(np.asarray(PICTURE.convert('L'))[..., None], 3, axis=-1)


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


@pytest.mark.parametrize('name', ['rgb.jpg', 'grey.jpg', 'two.mpo', 'rgb.png', 'grey.png',
                                  'rgb16.png'])
def test_ordinary_files_are_opencvs(tmp_path, name, monkeypatch):
    """Were OpenCV to refuse a flag, Pillow would step in and nobody would notice but for time."""
    KINDS[name][0](tmp_path / name)
    monkeypatch.delattr('densessl.pixels.decoders.by_pillow')
    assert read_image(tmp_path / name).shape == (30, 40, 3)


@pytest.mark.parametrize('name', KINDS)
def test_the_size_is_known_before_the_pixels(tmp_path, name):
    KINDS[name][0](tmp_path / name)
    stored = open_image(tmp_path / name)
    assert stored.size == (30, 40) and stored.pixels().shape == (30, 40, 3)
    assert stored.reducible == (name in ('rgb.jpg', 'grey.jpg', 'two.mpo'))


@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('reduction', [2, 4, 8])
def test_reduced_pixels_are_means(tmp_path, reduction, mode):
    large = PICTURE.resize((203, 157), Image.Resampling.BICUBIC)
    large.convert(mode).save(tmp_path / 'x.jpg', quality=98)
    stored = open_image(tmp_path / 'x.jpg')
    pixels, whole = stored.pixels(reduction), stored.pixels()
    assert pixels.shape == (-(-157 // reduction), -(-203 // reduction), 3)
    height, width = 157 // reduction, 203 // reduction       # of full blocks
    means = whole[:height * reduction, :width * reduction].reshape(
        height, reduction, width, reduction, 3).mean((1, 3))
    assert np.abs(pixels[:height, :width] - means).mean() < 2
    assert np.abs(pixels[:height, :width] - means).max() < 16


def test_a_turned_image_is_not_reduced(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        PICTURE.save(tmp_path / 'x.jpg', exif=exif)
        stored = open_image(tmp_path / 'x.jpg')
        assert stored.reducible == (orientation == 1)
        assert stored.size == stored.pixels().shape[:2]


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
    files = {'half.jpg': jpeg[:-200], 'half.png': png[:len(png) // 2],
             'flipped.png': flipped, 'text.jpg': b'no image', 'zero.jpg': b'',
             'bomb.png': bomb(60_000),
             'script.jpg': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    reasons = {'half.jpg': 'truncated', 'half.png': 'truncated', 'flipped.png': 'data stream',
               'text.jpg': 'not an image', 'zero.jpg': 'empty', 'bomb.png': 'bomb',
               'script.jpg': 'not an image', 'link.jpg': 'does not exist', 'float.tif': 'float32',
               'folder.jpg': 'directory', 'gone.jpg': 'No such file'}
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage, match=reason) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)
        assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
