"""Damaged files: what is left of them, or the true reason in one line."""
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from odd_files import COLORS, GRAY12, GRAY16, SMOOTH, by_pillow, chunk, decode, png16, tiff
from PIL import Image

from densessl.errors import UsageError
from densessl.labels.label_ids import UnusableMap, read_ids
from densessl.pixels.decode import UnreadableImage, image_size, read_image
from densessl.pixels.label_image import read_label_image


@pytest.mark.parametrize('name', ['x.jpg', 'progressive.jpg', 'x.png', 'x16.png', 'interlaced.png'])
def test_ends_that_are_missing(tmp_path, name, capfd, monkeypatch):
    monkeypatch.setattr('densessl.pixels.decode._told', bytearray(1))
    if name == 'x16.png':
        data = png16(SMOOTH.astype(np.uint16) << 8, 2)
    elif name == 'interlaced.png':      # seven passes
        data = png16(SMOOTH.astype(np.uint16) << 8, 2)
        rows = [SMOOTH[y::b, x::a].astype(np.uint16) << 8 for x, y, a, b in (
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
            (0, 1, 1, 2))]
        raw = b''.join(b'\0' + row.astype('>u2').tobytes() for part in rows for row in part)
        head = struct.pack('>IIBBBBB', 160, 128, 16, 2, 0, 0, 1)
        data = (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(raw))
                + chunk(b'IEND', b''))
    else:
        data = by_pillow(SMOOTH, name[-3:].upper().replace('JPG', 'JPEG'), **(
            {'quality': 95, 'progressive': name[0] == 'p'} if name.endswith('jpg') else {}))
    whole = decode(name, data)
    for cut in (1, 2, 20):
        (tmp_path / name).write_bytes(data[:-cut])
        pixels = read_image(tmp_path / name)
        assert pixels.shape == whole.shape and image_size(tmp_path / name) == (128, 160)
        difference = np.abs(pixels[:96].astype(int) - whole[:96]).max()
        assert difference <= (8 if name.endswith('jpg') else 0)
    said = capfd.readouterr().err
    assert said.count('ends too early') == 1 and name in said and said.count('\n') == 1
    (tmp_path / name).write_bytes(data[:len(data) // 3])
    if name != 'progressive.jpg':       # whose first scans show all of it
        with pytest.raises(UnreadableImage, match=r'truncated: .* of its 128 rows are missing'):
            read_image(tmp_path / name)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK', 'progressive'])
@pytest.mark.parametrize('plain', [255, 128])
def test_a_plain_lower_part_is_not_missing(mode, plain):
    """White, or the very gray that stands for what is missing."""
    picture = SMOOTH.copy()
    picture[64:] = plain
    picture = Image.fromarray(picture).convert('RGB' if mode == 'progressive' else mode)
    file = io.BytesIO()
    picture.save(file, 'JPEG', quality=95, progressive=mode == 'progressive')
    whole = decode('x.jpg', file.getvalue())
    for cut in (1, 2):
        assert np.array_equal(decode('x.jpg', file.getvalue()[:-cut]), whole)
    if mode != 'progressive':
        with pytest.raises(UnreadableImage, match=r'truncated: \d+ of its 128 rows are missing'):
            decode('x.jpg', file.getvalue()[:len(file.getvalue()) // 2])


def jpeg_of(marker, bits):
    return (b'\xff\xd8\xff' + bytes([marker]) + struct.pack('>HBHHB', 11, bits, 8, 8, 1)
            + b'\1\x11\0\xff\xda')


@pytest.mark.parametrize(('data', 'reason'), [
    (jpeg_of(0xc1, 12), 'JPEG of 12 bits'), (jpeg_of(0xf7, 8), 'JPEG-LS'),
    (b'\0\0\0\x18ftypheic' + bytes(99), 'HEIC'), (b'\xff\x0a' + bytes(99), 'JPEG XL'),
    (bytes(128) + b'DICM' + bytes(99), 'DICOM'), (b'<!DOCTYPE html><html>', 'web page'),
    (b'<svg xmlns=', 'SVG'), (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    (bytes(999), 'nothing but zeros'), (b'\x93NUMPY\1\0', 'NumPy'), (b'PK\x03\x04', 'ZIP'),
    (b'\xff\xd8\xff\xe0\0\x10JFIF\0', '(?i)truncated'),
    (b'\x89PNG\r\n\x1a\n\0\0\0\rIH', 'truncated'), (tiff(GRAY16)[:200], 'truncated|damaged'),
    (b'no image', 'not an image, or of an unknown'),
])
def test_reasons_are_true(data, reason):
    with pytest.raises(UnreadableImage, match=reason) as error:
        decode('x.jpg', data)
    assert '\n' not in str(error.value)


def test_sizes_that_are_none_or_too_large(monkeypatch):
    empty = bytearray(png16(GRAY16, 0))
    empty[16:20] = bytes(4)
    with pytest.raises(UnreadableImage, match='0×20 pixels'):
        decode('x', bytes(empty))
    kinds = (by_pillow(COLORS, 'PNG'), by_pillow(COLORS, 'JPEG'), by_pillow(COLORS, 'WEBP'),
             tiff(COLORS, photometric='rgb'), tiff(GRAY16), by_pillow(COLORS, 'BMP'),
             by_pillow(GRAY16, 'TIFF', compression='tiff_lzw', tiffinfo={278: 20}))    # one strip
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 299)
    for data in kinds:
        with pytest.raises(UnreadableImage, match=r'600 pixels are more than the limit of 598 .*'
                           'DENSESSL_MAX_PIXELS=600'):
            decode('x', data)
    monkeypatch.setenv('DENSESSL_MAX_PIXELS', '600')
    for data in kinds:
        assert decode('x', data).shape == (20, 30, 3)
    monkeypatch.setenv('DENSESSL_MAX_PIXELS', 'many')
    with pytest.raises(UsageError, match=r"DENSESSL_MAX_PIXELS must be .* not 'many'"):
        decode('x', kinds[0])


def test_libtiff_says_nothing(capfd):
    odd = tiff(GRAY12, extratags=[(65000, 3, 1, 5, True), (65001, 's', 0, 'x', True)])
    decode('x', odd)
    decode('x', by_pillow(GRAY12, 'TIFF', compression='tiff_lzw'))
    broken = bytearray(by_pillow(COLORS, 'TIFF', compression='tiff_lzw'))
    broken[20:60] = b'\xff' * 40
    with pytest.raises(UnreadableImage):
        decode('x', bytes(broken))
    assert capfd.readouterr().err == ''


def test_libtiff_says_nothing_of_the_first_strip_of_a_process(tmp_path):
    broken = bytearray(by_pillow(GRAY16, 'TIFF', compression='tiff_lzw'))
    broken[20:60] = b'\xff' * 40
    (tmp_path / 'x.tif').write_bytes(broken)
    program = 'import sys; from densessl.pixels.decode import read_image; read_image(sys.argv[1])'
    done = subprocess.run([sys.executable, '-c', program, tmp_path / 'x.tif'], capture_output=True,
                          text=True)
    assert 'UnreadableImage' in done.stderr.splitlines()[-1]
    assert 'tempfile.tif' not in done.stderr


def test_many_bands_are_as_much_as_many_pixels(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 400)
    data = tiff(np.zeros((20, 30, 6), np.uint8), photometric='minisblack', planarconfig='contig')
    with pytest.raises(UnreadableImage, match=r'3600 values in 6 bands .*DENSESSL_MAX_PIXELS=900'):
        decode('x', data)
    monkeypatch.setenv('DENSESSL_MAX_PIXELS', '900')
    assert decode('x', data).shape == (20, 30, 3)


def test_tiles_that_are_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 400)
    data = bytearray(tiff(GRAY16, tile=(32, 32), compression='zlib'))
    assert decode('x', bytes(data)).shape == (20, 30, 3)
    for tag, kind, value in ((323, 4, 65520), (259, 3, 5)):     # length; LZW, which is left to us
        at = data.index(struct.pack('<HHI', tag, kind, 1)) + 8
        data[at:at + 4] = struct.pack('<I', value)
    with pytest.raises(UnreadableImage, match='2096640 values in 1 bands'):
        decode('x', bytes(data))


@pytest.mark.timeout(20)
def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'link.png').symlink_to('pipe.png')
    (tmp_path / 'zero.png').symlink_to('/dev/zero')      # which has no end
    for path in tmp_path.iterdir():
        for read in (read_image, image_size):
            with pytest.raises(UnreadableImage, match='a pipe, socket or device instead of a file'):
                read(path)
        for read, error in ((read_ids, UnusableMap), (read_label_image, ValueError)):
            with pytest.raises(error, match='a pipe, socket or device instead of a file'):
                read(path)
