"""The range of deep images: said, measured once, and the same for masks, views and training."""
import argparse
import json
import os

import numpy as np
import pytest
import tifffile
from odd_files import GRAY12, RANDOM, by_pillow, gray, tiff

from densessl.cli import main
from densessl.commands import add_pixel_arguments, pixel_arguments
from densessl.config import load_config
from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.images.range_survey import with_rule
from densessl.masks.build import make_masks
from densessl.masks.find import cache_folder, settle_rule, store_for_training
from densessl.masks.store import MaskStore
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.planning.config_check import check_config
from densessl.registry import MASK_GENERATORS

MINMAX = PixelRule('minmax')


@pytest.fixture
def twelve(tmp_path):
    """Six 12-bit TIFFs, two regions each, and an ordinary photo."""
    root = tmp_path / 'twelve'
    root.mkdir()
    for i in range(6):
        values = RANDOM.integers(100, 200, (40, 50)).astype(np.uint16)
        values[:, 25:] += 400 + i
        (root / f'{i}.tif').write_bytes(tiff(values, photometric='minisblack'))
    (root / 'photo.jpg').write_bytes(by_pillow(gray(values >> 8).astype(np.uint8), 'JPEG'))
    return root


def measured(folder, rule):
    return with_rule(find_images(folder), rule, say=False).rule.value_range


def test_a_part_of_the_range_is_said_once(twelve, capsys):
    images = with_rule(find_images(twelve), PLAIN)
    said = capsys.readouterr().err
    low = min(np.min(value) for value in every(twelve))
    high = max(np.max(value) for value in every(twelve))
    assert f'6 of 6 images looked at hold uint16 values from {low} to {high} of the 0 to' in said
    assert said.count('\n') == 1 and '--value-range' in said and images.rule == PLAIN
    with_rule(images, PixelRule((0, 4095)))
    assert capsys.readouterr().err == ''


def every(folder):
    return [tifffile.imread(path) for path in sorted(folder.glob('*.tif'))]


def test_what_uses_its_range_is_left_in_peace(tmp_path, capsys):
    (tmp_path / 'a.png').write_bytes(by_pillow(GRAY12 * 16, 'PNG'))
    (tmp_path / 'b.png').write_bytes(by_pillow(gray((GRAY12 >> 4).astype(np.uint8)), 'PNG'))
    (tmp_path / 'c.pgm').write_bytes(b'P5 30 20 4095\n' + GRAY12.astype('>u2').tobytes())
    assert with_rule(find_images(tmp_path), PLAIN).rule == PLAIN
    assert capsys.readouterr().err == ''


def test_minmax_and_percentiles_are_measured(tmp_path, twelve):
    values = every(twelve)
    assert measured(twelve, MINMAX) == (min(map(np.min, values)), max(map(np.max, values)))
    low, high = measured(twelve, PixelRule(('percentile', 10, 90)))
    assert (low, high) == pytest.approx(np.percentile(np.concatenate(values), (10, 90)), abs=2)
    assert all(type(number) in (int, float) for number in measured(twelve, MINMAX))
    floats = tmp_path / 'floats'
    floats.mkdir()
    holes = RANDOM.random((30, 30, 4)).astype(np.float32)
    holes[0, :4, 0] = np.nan, np.inf, -np.inf, -9999
    holes[5, 5] = 5.5, 0.5, 0.5, 77
    (floats / 'a.tif').write_bytes(tiff(holes, photometric='minisblack', planarconfig='contig',
                                        extratags=[(42113, 's', 0, '-9999', True)]))
    assert measured(floats, MINMAX)[1] == 5.5 and 0 <= measured(floats, MINMAX)[0] < 0.01
    assert measured(floats, PixelRule('minmax', bands=(4,)))[1] == 77
    with pytest.raises(UsageError, match=r'1 of 1 images .* float32 .* whose range is not known'):
        with_rule(find_images(floats), PLAIN)


def test_text_is_measured_like_bytes(tmp_path):
    (tmp_path / 'a.pgm').write_text('P2\n4 1\n4095\n2095 2048 1024 7\n')
    (tmp_path / 'b.ppm').write_text('P3\n1 1\n4095\n3000 2048 9')
    assert measured(tmp_path, MINMAX) == (7, 3000)


def test_nothing_to_measure(tmp_path):
    (tmp_path / 'a.png').write_bytes(by_pillow(gray((GRAY12 >> 4).astype(np.uint8)), 'PNG'))
    assert measured(tmp_path, MINMAX) is None
    (tmp_path / 'b.tif').write_bytes(tiff(np.full((9, 9), 7, np.uint16)))
    with pytest.raises(UsageError, match=r'all values that were looked at .* are 7'):
        measured(tmp_path, MINMAX)


def test_a_list_keeps_its_rule(twelve):
    images = with_rule(find_images(twelve), PixelRule((0, 1000)))
    pixels = images.read(0)
    assert pixels.max() == (255 * int(every(twelve)[0].max()) + 500) // 1000
    assert images.read(6).max() < 40        # the photo is as it was
    for other in (images.select([0, 2]), images.over(*images.buffers())):
        assert other.rule == images.rule and np.array_equal(other.read(0), pixels)


def test_masks_are_those_of_the_range(twelve, tmp_path, capsys):
    """Felzenszwalb finds one region in what is almost black, two in what is not."""
    made = ['make_masks', str(twelve)]
    more = ['--generator', 'felzenszwalb', '--set', 'scale=1000', 'min_size=100', '--workers', '1']
    assert main([*made, str(tmp_path / 'dark'), *more]) == 0
    assert 'almost black' in capsys.readouterr().err
    assert main([*made, str(tmp_path / 'seen'), *more, '--value-range', 'minmax']) == 0
    dark, seen = (MaskStore(tmp_path / name) for name in ('dark', 'seen'))
    assert dark.read('0.tif').max() == 0 and seen.read('0.tif').max() == 1
    assert 'value_range' not in dark.info
    assert tuple(seen.info['value_range']) == measured(twelve, MINMAX)
    capsys.readouterr()
    assert main([*made, str(tmp_path / 'seen'), *more]) == 0        # goes on as it began
    assert main([*made, str(tmp_path / 'seen'), '--check']) == 0
    assert main([*made, str(tmp_path / 'seen'), *more, '--value-range', '0', '4095']) == 2
    said = capsys.readouterr().err
    assert 'not by value_range (0, 4095)' in said and 'by value_range (1' in said


def test_training_reads_as_the_masks_were_made(twelve, tmp_path):
    images = with_rule(find_images(twelve), MINMAX, say=False)
    generator = MASK_GENERATORS.build(dict(type='grid', rows=2, cols=2))
    make_masks(images, tmp_path / 'masks', generator, workers=1, progress=False)
    fresh = find_images(twelve)
    for rule in (PLAIN, MINMAX, PixelRule(('percentile', 1, 99))):
        assert settle_rule(fresh, rule, tmp_path / 'masks', say=False).rule == images.rule
    other = settle_rule(fresh, PixelRule((0, 9)), tmp_path / 'masks', say=False)
    with pytest.raises(UsageError, match='were made of images read by value_range'):
        store_for_training(other, {'store': str(tmp_path / 'masks')}, is_builder=True)
    assert cache_folder(other, generator) != cache_folder(fresh, generator)
    assert main(['make_shards', str(twelve), str(tmp_path / 'shards'), '--masks',
                 str(tmp_path / 'masks')]) == 0
    inside = settle_rule(find_images(tmp_path / 'shards'), PLAIN, None, say=False)
    assert inside.rule == images.rule and np.array_equal(inside.read(0), images.read(0))
    assert len(store_for_training(inside, {'type': 'grid', 'rows': 2, 'cols': 2},
                                  is_builder=True)[1]) == 7


def test_a_config_has_the_keys():
    cfg = load_config('small/simclr_r18', {'value_range': 'minmax', 'bands': (3, 2, 1)})
    check_config(cfg, 'demo')
    assert PixelRule.of(cfg) == PixelRule('minmax', (3, 2, 1))
    for wrong in ('widest', (3, 1)):
        with pytest.raises(UsageError, match='value_range'):
            check_config(load_config('small/simclr_r18', {'value_range': wrong}), 'demo')


@pytest.mark.parametrize('words', [['minmax'], ['percentile', '1', '99'], ['0', '4095'],
                                   ['-1.5', '2e3']])
def test_the_command_line_takes_every_kind(words):
    parser = argparse.ArgumentParser()
    add_pixel_arguments(parser, 'x')
    given = pixel_arguments(parser.parse_args(['--value-range', *words, '--bands', '3', '2', '1']))
    rule = PixelRule.of(given)
    assert rule.bands == (3, 2, 1) and str(rule).startswith('value_range')
    assert PixelRule.of(json.loads(json.dumps(rule.record()))) == rule
    assert pixel_arguments(parser.parse_args([])) == {}


def test_large_lists_are_looked_at_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr('densessl.images.range_survey.LOOK', 2)
    monkeypatch.setattr('densessl.images.range_survey.MEASURE', 3)
    for i in range(9):
        values = np.full((8, 8), 100 * i, np.uint16)
        values[0] = 1
        (tmp_path / f'{i}.tif').write_bytes(tiff(values))
    assert measured(tmp_path, MINMAX) == (0, 800)     # the first, the middle one, the last
    os.remove(tmp_path / '8.tif')
    assert measured(tmp_path, MINMAX) == (0, 700)
