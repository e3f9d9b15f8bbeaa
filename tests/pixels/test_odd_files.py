"""Odd files are read as viewers show them, and their sizes agree; exact pixels."""
import io
import struct
import zlib

import numpy as np
import pytest
from odd_files import (
    COLORS,
    GRAY12,
    GRAY16,
    RANDOM,
    SMOOTH,
    by_pillow,
    chunk,
    decode,
    exif,
    gray,
    lzw_bands,
    png16,
    tiff,
)
from PIL import Image, PngImagePlugin

from densessl.errors import UsageError
from densessl.pixels.decode import UnreadableImage, data_size, open_data
from densessl.pixels.pixel_rule import PLAIN, PixelRule

ODD = {   # an orientation that is none: type, count, value and what is behind it
    '9': (3, 1, b'\x09'), '255': (3, 1, b'\xff'), '0': (3, 1, b'\0'), 'text': (2, 2, b'6\0'),
    'two': (3, 2, b'\x06\0\x06\0'), 'byte': (1, 1, b'\x06'), 'signed': (8, 1, b'\xff\xff'),
    'rational': (5, 1, struct.pack('<I', 26), struct.pack('<II', 6, 1)),
}
KINDS = {'PNG': {}, 'JPEG': {'quality': 98}, 'WEBP': {'lossless': True}, 'MPO': {'quality': 98}}


def assert_shows(data, expected, rule=PLAIN, tolerance=0):
    stored = open_data('x', data, rule)
    pixels = stored.pixels()
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert pixels.shape == expected.shape == (*stored.size, 3)
    assert data_size('x', data) == stored.size
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize('kind', KINDS)
def test_an_orientation_that_is_none_counts_as_upright(kind):
    for words in ODD.values():
        assert_shows(by_pillow(SMOOTH, kind, exif=exif(*words), **KINDS[kind]), SMOOTH,
                     tolerance=12 if kind in ('JPEG', 'MPO') else 0)
    turned = by_pillow(SMOOTH, kind, exif=exif(3, 1, b'\x06'), **KINDS[kind])
    assert_shows(turned, np.rot90(SMOOTH, -1), tolerance=12 if kind in ('JPEG', 'MPO') else 0)


@pytest.mark.parametrize('bits', [8, 16])
def test_so_does_the_tag_of_a_tiff(bits):
    values = COLORS.astype(f'u{bits // 8}') << (bits - 8)
    for tag in ((3, 1, 9), (3, 1, 255), (3, 1, 0), ('s', 0, '6'), (3, 2, (6, 6)), (5, 1, (6, 1)),
                (1, 1, 6)):
        assert_shows(tiff(values, photometric='rgb', extratags=[(274, *tag, True)]), COLORS)
    for order in '<>':
        for big in (False, True):
            turned = tiff(values, photometric='rgb', extratags=[(274, 3, 1, 6, True)],
                          byteorder=order, bigtiff=big)
            assert_shows(turned, np.rot90(COLORS, -1))


def test_orientation_behind_the_pixels_and_in_xmp():
    six = exif(3, 1, b'\x06')[6:]
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="6"/>'
    packed = (b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(xmp[22:] + b' ' * 3_000_000))
    expected = gray((GRAY16 >> 8).astype(np.uint8))
    for after in (chunk(b'eXIf', six), chunk(b'iTXt', xmp)):
        for rule in (PLAIN, PixelRule((0, 65536))):     # OpenCV turns some by itself
            assert_shows(png16(GRAY16, 0, b'', after), np.rot90(expected, -1), rule, tolerance=1)
            assert_shows(png16(GRAY16, 0, after), np.rot90(expected, -1), rule, tolerance=1)
            opaque = np.dstack([GRAY16, np.full_like(GRAY16, 0xffff)])
            assert_shows(png16(opaque, 4, after), np.rot90(expected, -1), rule, tolerance=1)
    # more than is looked at
    assert_shows(png16(GRAY16, 0, b'', chunk(b'iTXt', packed)), expected)


def test_the_first_of_several_exif_blocks_counts():
    data = by_pillow(COLORS, 'JPEG', quality=98)
    blocks = b''.join(b'\xff\xe1' + struct.pack('>H', len(one) + 2) + one for one in (
        exif(3, 1, b'\x06'), exif(3, 1, b'\x03')))
    assert_shows(data[:2] + blocks + data[2:], np.rot90(decode('x', data), -1))


def test_16_bit_png_of_every_kind():
    high = (GRAY16 >> 8).astype(np.uint8)
    alpha = RANDOM.integers(0, 65536, GRAY16.shape).astype(np.uint16)
    share = (alpha >> 8)[..., None].astype(float) / 255
    over_white = np.rint(gray(high) * share + 255 * (1 - share)).astype(np.uint8)
    keyed = gray(high)
    keyed[GRAY16 == GRAY16[0, 0]] = 255
    assert_shows(png16(GRAY16, 0), gray(high))
    assert_shows(png16(GRAY16, 0, chunk(b'tRNS', struct.pack('>H', GRAY16[0, 0]))), keyed)
    key = chunk(b'tRNS', struct.pack('>HHH', *[GRAY16[0, 0]] * 3))
    assert_shows(png16(gray(GRAY16), 2, key), keyed)
    assert_shows(png16(np.dstack([GRAY16, alpha]), 4), over_white, tolerance=1)
    assert_shows(png16(np.dstack([gray(GRAY16), alpha]), 6), over_white, tolerance=1)
    rule = PixelRule((1000, 21000))
    scaled = gray(np.floor(255 * np.clip((GRAY16 - 1000.) / 20000, 0, 1) + .5).astype(np.uint8))
    assert_shows(png16(GRAY16, 0), scaled, rule)
    scaled[GRAY16 == GRAY16[0, 0]] = 255
    assert_shows(png16(GRAY16, 0, chunk(b'tRNS', struct.pack('>H', GRAY16[0, 0]))), scaled, rule)


@pytest.mark.parametrize('kind', ['tEXt', 'zTXt', 'iTXt', 'iCCP'])
def test_text_hides_no_png(kind, monkeypatch):
    """More than Pillow takes, and what would inflate to much more."""
    monkeypatch.setattr(PngImagePlugin, 'MAX_TEXT_MEMORY', 100_000)     # not to write 64 MiB here
    packed = zlib.compress(bytes(3_000_000), 1)
    content = {'tEXt': b'Comment\0' + b'x' * 200_000, 'zTXt': b'Comment\0\0' + packed,
               'iTXt': b'XML:com.adobe.xmp\0\1\0\0\0' + packed, 'iCCP': b'icc\0\0' + packed}
    text = chunk(kind.encode(), content[kind])
    expected = gray((GRAY16 >> 8).astype(np.uint8))
    assert np.array_equal(decode('x', png16(GRAY16, 0, text)), expected)
    assert np.array_equal(decode('x', png16(GRAY16, 0, b'', text)), expected)
    plain = by_pillow(COLORS, 'PNG')
    assert_shows(plain[:33] + text + plain[33:], COLORS)


@pytest.mark.parametrize('kind', ['i1', 'u2', 'i2', 'u4', 'i4', 'f2', 'f4', 'f8'])
def test_tiffs_of_any_type_and_number_of_bands(kind):
    for bands in (1, 2, 3, 4, 6):
        values = (RANDOM.random((20, 30, bands)) * 100).astype(kind)
        shown = values[..., :3] if bands >= 3 else gray(values[..., 0])
        expected = np.floor(255 * (shown.astype(float) / 100) + 0.5).astype(np.uint8)
        rule = PixelRule((0, 100))
        whole = values[..., 0] if bands == 1 else values
        assert_shows(tiff(whole, photometric='minisblack', byteorder='>',
                          planarconfig=None if bands == 1 else 'contig'), expected, rule)
        if bands > 1:
            assert_shows(tiff(values.transpose(2, 0, 1), photometric='minisblack', tile=(16, 16),
                              planarconfig='separate', compression='zlib'), expected, rule)


@pytest.mark.parametrize(('kind', 'predictor'), [('u2', 1), ('u2', 2), ('i2', 2), ('f4', 1),
                                                 ('f4', 3), ('f8', 3), ('u1', 2)])
def test_lzw_of_many_bands(kind, predictor):
    values = (RANDOM.random((20, 30, 5)) * 100).astype(kind)
    expected = values[..., :3] if kind == 'u1' else np.floor(
        255 * (values[..., :3].astype(float) / 100) + 0.5).astype(np.uint8)
    assert_shows(lzw_bands(values, predictor), expected, PixelRule((0, 100)))


@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_deflate', 'packbits', 'zstd', 'lzma'])
def test_compressed_single_bands(compression):
    assert_shows(by_pillow(GRAY12, 'TIFF', compression=compression),
                 gray((GRAY12 >> 8).astype(np.uint8)))
    floats = GRAY12.astype(np.float32) / 40
    assert_shows(by_pillow(floats, 'TIFF', compression=compression),
                 gray(np.floor(255 * floats.astype(float) / 100 + 0.5).astype(np.uint8)),
                 PixelRule((0, 100)))


def test_which_bands_are_shown():
    bands = RANDOM.integers(0, 256, (20, 30, 4)).astype(np.uint8)
    plain = tiff(bands, photometric='minisblack', planarconfig='contig')
    infrared = tiff(bands, photometric='rgb', extrasamples=['unspecified'])
    for data in (plain, infrared):
        assert_shows(data, bands[..., :3])
        assert_shows(data, bands[..., [2, 1, 0]], PixelRule(bands=(3, 2, 1)))
        assert_shows(data, gray(bands[..., 3]), PixelRule(bands=4))
        with pytest.raises(UnreadableImage, match=r'bands=\(5, 2, 1\), but it has 4 bands'):
            decode('x', data, PixelRule(bands=(5, 2, 1)))
    assert_shows(tiff(COLORS, photometric='rgb'), COLORS[..., ::-1], PixelRule(bands=(3, 2, 1)))
    # whose bands are colors
    assert_shows(by_pillow(COLORS, 'PNG'), COLORS, PixelRule(bands=(3, 2, 1)))
    assert_shows(tiff(bands[..., :2], photometric='minisblack', planarconfig='contig'),
                 gray(bands[..., 0]))
    assert_shows(tiff(GRAY16, photometric='miniswhite'), 255 - gray((GRAY16 >> 8).astype(np.uint8)))
    alpha = tiff(bands, photometric='rgb', extrasamples=['unassalpha'])
    share = bands[..., 3:].astype(float) / 255
    assert_shows(alpha, np.rint(bands[..., :3] * share + 255 * (1 - share)).astype(np.uint8),
                 tolerance=1)


def test_values_that_are_none():
    values = np.full((20, 30, 3), 50, np.float32)
    values[0, :4] = np.array([np.nan, np.inf, -np.inf, 1e30])[:, None]
    expected = np.full((20, 30, 3), 128, np.uint8)
    expected[0, :4] = np.array([0, 255, 0, 255])[:, None]
    assert_shows(tiff(values, photometric='rgb'), expected, PixelRule((0, 100)))
    holes = np.where(GRAY12 < 2000, 9999, GRAY12).astype(np.int16)
    named = tiff(holes, photometric='minisblack', extratags=[(42113, 's', 0, '9999', True)])
    expected = np.floor(255 * GRAY12.astype(float) / 4000 + 0.5).astype(np.uint8)
    expected[GRAY12 < 2000] = 0
    assert_shows(named, gray(expected), PixelRule((0, 4000)))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.uint32, np.float32])
def test_colors_that_are_not_rgb(kind):
    """Red, written as CMYK and with alpha of both kinds, is red whatever its depth."""
    full = np.iinfo(kind).max if np.dtype(kind).kind == 'u' else 1
    rule = PixelRule((0, int(full))) if np.dtype(kind).itemsize > 2 else PLAIN

    def shows(expected, color, **options):
        values = (np.ones((8, 8, 1)) * color * full).astype(kind)
        assert_shows(tiff(values, planarconfig='contig', **options),
                     np.full((8, 8, 3), expected, np.uint8), rule, tolerance=1)

    shows((255, 0, 0), (0, 1, 1, 0), photometric='separated')
    shows((128, 0, 0), (0, 1, 1, .5), photometric='separated')
    shows((255, 128, 128), (0, 1, 1, 0, .5), photometric='separated', extrasamples=['unassalpha'])
    shows((255, 128, 128), (.5, 0, 0, .5), photometric='rgb', extrasamples=['assocalpha'])
    shows((191, 128, 128), (.5, 0, 0, .5), photometric='rgb', extrasamples=['unassalpha'])
    shows((191,) * 3, (.25, .5), photometric='minisblack', extrasamples=['assocalpha'])


def test_deep_colors_of_another_kind_are_refused_by_name():
    values = RANDOM.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    for kind in ('cielab', 'ycbcr'):
        data = tiff(values, photometric=kind)
        with pytest.raises(UnreadableImage, match=f'{kind.upper()} colors, 3 bands of 16 bits'):
            decode('x', data)
        assert_shows(data, (values >> 8).astype(np.uint8), PixelRule(bands=(1, 2, 3)))


def test_no_data_is_black_whatever_zero_means():
    values = np.linspace(0, 10, 600, dtype=np.float32).reshape(20, 30)
    values[0, 5:7] = -9999, np.nan
    data = tiff(values, photometric='miniswhite', extratags=[(42113, 's', 0, '-9999', True)])
    expected = 255 - np.floor(255 * values.astype(float).clip(0, 10) / 10 + 0.5)
    expected[0, 5:7] = 0
    assert_shows(data, gray(expected.astype(np.uint8)), PixelRule((0, 10)), tolerance=1)
    full = np.where(GRAY16 > 40000, 65535, GRAY16)
    named = tiff(full, photometric='minisblack', extratags=[(42113, 's', 0, '65535', True)])
    assert_shows(named, gray(np.where(GRAY16 > 40000, 0, GRAY16 >> 8).astype(np.uint8)))


def test_formats_that_state_their_range():
    pgm = b'P5 30 20 4095\n' + GRAY12.astype('>u2').tobytes()
    assert_shows(pgm, gray((GRAY12.astype(np.int64) * 65535 // 4095 >> 8).astype(np.uint8)),
                 tolerance=1)
    rule = PixelRule((0, 8000))
    expected = gray(np.floor(255 * GRAY12.astype(float) / 8000 + .5).astype(np.uint8))
    assert_shows(pgm, expected, rule)
    text = ' '.join(map(str, GRAY12.ravel()))
    for end in ('', '\n'):
        assert_shows(f'P2\n# 12 bits\n30 20\n4095\n{text}{end}'.encode(), expected, rule)
    colors = decode('x', b'P3 2 1 4095 4095 2048 1024 0 8 5000', PixelRule((0, 4095)))
    assert colors.tolist() == [[[255, 128, 64], [0, 0, 255]]]
    jp2 = by_pillow(GRAY16, 'JPEG2000')
    assert_shows(jp2, gray((GRAY16 >> 8).astype(np.uint8)))


def test_rules_that_are_none():
    for wrong, reason in ((5, 'must be'), ((3, 1), 'above the first'), ((0, 1, 2), 'must be'),
                          (('percentile', 5, 101), 'to 100'), ((0, float('nan')), 'must be'),
                          ('maxmin', 'minmax')):
        with pytest.raises(UsageError, match=reason):
            PixelRule(wrong)
    for wrong in ((1, 2), (0, 1, 2), 'red', (1.5, 2, 3), True):
        with pytest.raises(UsageError, match='bands must be'):
            PixelRule(bands=wrong)


def test_a_range_is_named_where_there_is_none():
    for kind in ('i2', 'i4', 'f4', 'f8', 'u4'):
        data = tiff((RANDOM.random((9, 9)) * 50).astype(kind), photometric='minisblack')
        with pytest.raises(UnreadableImage, match=f'{np.dtype(kind).name}.*--value-range'):
            decode('x', data)


def test_palettes_few_bits_and_ink():
    """Palettes with transparency, two bits, CMYK: computed from what was written."""
    palette = Image.fromarray(COLORS).quantize(16)
    file = io.BytesIO()
    palette.save(file, 'PNG', transparency=3)
    expected = np.asarray(palette.convert('RGB')).copy()
    expected[np.asarray(palette) == 3] = 255
    assert_shows(file.getvalue(), expected)
    two_bits = GRAY16[:, :28] >> 14
    packed = (two_bits[:, ::4] << 6 | two_bits[:, 1::4] << 4 | two_bits[:, 2::4] << 2
              | two_bits[:, 3::4]).astype(np.uint8)
    raw = b''.join(b'\0' + row.tobytes() for row in packed)
    data = (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 28, 20, 2, 0, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(raw)) + chunk(b'IEND', b''))
    assert_shows(data, gray((two_bits * 85).astype(np.uint8)))
    ink = np.dstack([COLORS, 255 - COLORS.max(2)])
    file = io.BytesIO()
    Image.fromarray(ink, 'CMYK').save(file, 'TIFF')
    left = 255 - ink[..., 3:].astype(int)
    assert_shows(file.getvalue(), np.rint((255 - ink[..., :3].astype(int)) * left / 255),
                 tolerance=1)


def test_12_bits_packed():
    """Three bytes for two values, whose own range is 0 … 4095."""
    two = GRAY12.astype(int).reshape(20, 15, 2)
    packed = np.stack([two[..., 0] >> 4, (two[..., 0] & 15) << 4 | two[..., 1] >> 8,
                       two[..., 1] & 255], -1).astype(np.uint8).tobytes()
    tags = [(256, 4, 30), (257, 4, 20), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 4, 20), (279, 4, len(packed))]
    data = (b'II*\0' + struct.pack('<I', 8 + len(packed)) + packed + struct.pack('<H', len(tags))
            + b''.join(struct.pack('<HHII', code, kind, 1, x) for code, kind, x in tags) + bytes(4))
    assert_shows(data, gray((GRAY12 >> 4).astype(np.uint8)))
    assert_shows(data, gray(np.floor(255 * GRAY12.astype(float) / 4000 + 0.5).astype(np.uint8)),
                 PixelRule((0, 4000)))
