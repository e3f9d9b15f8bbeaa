"""Label maps as people have them, by all that read them: the right ids, or the file's name."""
from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from planted_faults import draw

from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.labelled_data import inspect_labelled
from densessl.labels.data_check import check_data
from densessl.labels.pixel_labels import find_pixel_labels, label_reports


def faults_of(root):
    """What the pass before fine-tuning says, and that before a probe."""
    cfg, target = read_downstream_config('downstream/fcn_r18_folder')
    target.set_data(cfg, str(root))
    for reports in (inspect_labelled(cfg, target)[0], label_reports(find_pixel_labels(root))):
        yield [str(fault) for fault in check_data(reports, progress=False).faults]


def few_bits(ids, bits, kind):
    """A map of a few ids as people's tools pack them: gray, of 2 or 4 bits a pixel."""
    height, width = ids.shape
    rows = np.unpackbits(ids[..., None], axis=2)[..., 8 - bits:].reshape(height, -1)
    packed = np.packbits(rows, axis=1)
    if kind == 'tif':
        tags = ((256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1),
                (278, height), (279, packed.size))
        return (b'II*\0' + struct.pack('<I', 8 + packed.size) + packed.tobytes()
                + struct.pack('<H', len(tags))
                + b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags)
                + bytes(4))
    chunks = ((b'IHDR', struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)),
              (b'IDAT', zlib.compress(b''.join(b'\0' + row.tobytes() for row in packed))),
              (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        for name, data in chunks)


@pytest.mark.parametrize('pack', [
    lambda ids: few_bits(ids, 2, 'png'), lambda ids: few_bits(ids, 4, 'png'),
    lambda ids: few_bits(ids, 4, 'tif'),
    lambda ids: b'P5 %d %d 3\n' % ids.shape[::-1] + ids.tobytes(),
    lambda ids: b'P2 %d %d 3\n' % ids.shape[::-1] + b' '.join(b'%d' % one for one in ids.flat),
], ids=['PNG of 2 bits', 'PNG of 4 bits', 'TIFF of 4 bits', 'PGM', 'plain PGM'])
def test_ids_that_libraries_would_multiply_are_refused(pack, tmp_path):
    pairs = draw(tmp_path, 'folder', 2)
    ids = np.array(Image.open(pairs[0][1])) % 4
    pairs[0][1].write_bytes(pack(ids))
    assert set(np.array(Image.open(pairs[0][1])).flat) != set(ids.flat)  # what libraries see
    (tmp_path / 'classes.json').write_text('{"classes": ["ground", "one", "two", "three"]}')
    for faults in faults_of(tmp_path):
        assert faults == [
            f'{pairs[0][1]} cannot be read: its gray values are not of 8 bits, or inverted, and '
            f'libraries change them; save it as PNG with 8 bits a pixel']


def test_a_palette_of_few_bits_is_read(tmp_path):
    pairs = draw(tmp_path, 'folder', 2)
    for _, label in pairs:
        ids = Image.open(label).point(lambda value: value % 4).convert('P')
        ids.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        ids.save(label, bits=2)
        assert label.read_bytes()[24] == 2
    assert list(faults_of(tmp_path)) == [[], []]


def test_two_images_of_one_label_map_are_named(tmp_path):
    image, _ = draw(tmp_path, 'folder', 2)[0]
    twins = [image.with_suffix(suffix) for suffix in ('.JPEG', '.png')]
    for twin in twins:
        Image.open(image).save(twin)
    first, *others = sorted([image, *twins])
    for faults in faults_of(tmp_path):
        assert faults == [f'{other} has the label map of {first}, too; rename one of them or '
                          f'remove it' for other in others]
