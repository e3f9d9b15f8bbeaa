"""Label maps that are damaged or made to fill the memory: told by their header, one line each."""
import io
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from weights.test_hostile_files import changes_of, peak

from densessl.cli import main
from densessl.pixels import label_png
from densessl.pixels.decode import UnreadableImage
from densessl.pixels.label_image import MAX_PIXELS, read_label_image


def png(width, height, *chunks):
    """A PNG that says it has that many pixels, with these chunks after the header."""
    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))
    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return (label_png.SIGNATURE + chunk(b'IHDR', header)
            + b''.join(chunk(*one) for one in chunks)
            + chunk(b'IDAT', zlib.compress(bytes(9) * 8)) + chunk(b'IEND', b''))


BOMB = b'a\0\0' + zlib.compress(bytes(200 << 20), 9)


@pytest.mark.parametrize(('data', 'words'), [
    (png(30_000, 30_000), '30000×30000 pixels; at most 179 million are read'),
    (png(2 ** 31 - 1, 2 ** 31 - 1), 'at most 179 million'),
    (b'GIF89a' + bytes(60), 'not a PNG label map'), (b'', 'not a PNG'),
    (label_png.SIGNATURE, 'not a PNG label map'),
    (label_png.SIGNATURE + bytes(4) + b'IHDR', 'not a'),
])
def test_a_mask_is_told_by_its_header(data, words):
    before = peak()
    with pytest.raises(UnreadableImage, match=words):
        label_png.decode('m.png', data)
    assert peak() - before < 100


@pytest.mark.parametrize('kind', [b'zTXt', b'iCCP', b'iTXt'])
def test_what_is_packed_beside_a_mask_is_not_unpacked(kind, tmp_path):
    data = png(8, 8, (kind, BOMB if kind != b'iTXt' else b'a\0\1\0\0\0' + BOMB[3:]))
    before = peak()
    assert label_png.decode('m.png', data).shape == (8, 8)
    (tmp_path / 'm.png').write_bytes(data)
    try:
        read_label_image(tmp_path / 'm.png')
    except ValueError as error:
        assert 'too large' in str(error)
    assert peak() - before < 100


@pytest.mark.parametrize(('data', 'words'), [
    (png(30_000, 30_000), 'at most 179 million are read'), (b'no image', 'it is not an image'),
    (png(8, 8)[:43], 'damaged'), (b'%!PS-Adobe-3.0 EPSF-3.0\n', 'it is not an image'),
])
def test_a_label_map_is_one_line(data, words, label_folder, tmp_path, capsys):
    root = shutil.copytree(label_folder, tmp_path / 'data')     # others use the original
    label = next((root / 'labels' / 'train').iterdir())
    label.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_label_image(label)
    assert main(['probe', 'random', '--backbone-type', 'torchvision.resnet18', '--data',
                 str(root), '--workers', '0']) == 2
    head, fault = capsys.readouterr().err.strip().splitlines()[-2:]
    assert '1 of the' in head and str(label) in fault and words in fault


def test_any_damage_to_a_label_map_is_a_value_error(tmp_path):
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    content = io.BytesIO()
    Image.fromarray(labels).save(content, 'TIFF')
    for kind, good in (('.png', label_png.encode(labels)), ('.tif', content.getvalue())):
        path = tmp_path / f'm{kind}'
        for data in changes_of(good, 200, seed=1):
            path.write_bytes(data)
            try:
                assert read_label_image(path).size <= MAX_PIXELS
            except ValueError:
                pass
            try:
                label_png.decode(path, data)
            except UnreadableImage:
                pass


def test_opencv_reads_what_a_store_writes():
    labels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    data = label_png.encode(labels)
    assert np.array_equal(label_png.decode('m', data), labels)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint16
