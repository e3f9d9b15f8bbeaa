"""Images that change under their names do not keep their old masks in silence."""
from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import threading

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from PIL import Image

from densessl.commands import make_masks as command
from densessl.errors import UsageError
from densessl.files.lock import BuildLock
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.masks.build import make_masks
from densessl.masks.check import check_masks
from densessl.masks.find import generator_of, store_for_training
from densessl.masks.generator import MaskGenerator
from densessl.masks.metadata import INFO
from densessl.masks.record import RECORD
from densessl.masks.store import MaskStore
from densessl.registry import MASK_GENERATORS
from densessl.shards.write import make_shards

BRIGHT = dict(type='bright', threshold=100)
CHANGED = 'the image, or what its regions are from, has changed since its mask was made'


class Bright(MaskGenerator):
    """Two regions: the pixels above a threshold and the others. Its masks are known by a look at
    the image."""

    name = 'bright'

    def __init__(self, *, threshold: int = 100) -> None:
        self.threshold = threshold

    def __call__(self, image):
        if image.min() > self.threshold:
            raise ValueError('nothing is dark')
        return (image[..., 0] > self.threshold).astype(int)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MASK_GENERATORS.module_dict, 'bright', Bright)


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        paint(tmp_path / 'in' / f'{i}.png', columns=i + 1)
    make_masks(find_images(tmp_path / 'in'), tmp_path / 'out', Bright(), workers=1, progress=False)
    return tmp_path


def paint(path, columns, dark=0):
    """A dark image whose first ``columns`` columns are bright."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.full((8, 10, 3), dark, np.uint8)
    pixels[:, :columns] = 255
    Image.fromarray(pixels).save(path)


def mask(folder, i):
    return MaskStore(folder / 'out').read(f'{i}.png')


def bright_columns(folder, i):
    return int(mask(folder, i)[0].sum())


def train_on(folder, /, **masks):
    return store_for_training(find_images(folder / 'in'), dict(store=str(folder / 'out'), **masks),
                              is_builder=True)


def test_a_changed_image_gets_a_new_mask_before_training(folder, capsys):
    before = {i: mask(folder, i) for i in range(5)}
    paint(folder / 'in' / '2.png', columns=9)
    train_on(folder, **BRIGHT)
    err = capsys.readouterr().err
    assert '1 of 5 images, or' in err and 'have changed since their masks were made (2.png)' in err
    assert bright_columns(folder, 2) == 9
    assert all(np.array_equal(mask(folder, i), before[i]) for i in (0, 1, 3, 4))
    train_on(folder, **BRIGHT)                          # and then is the same again
    assert 'changed' not in capsys.readouterr().err


def test_the_same_size_and_time_apart_the_bytes_decide(folder, capsys):
    path = folder / 'in' / '1.png'
    os.utime(path, ns=(1, 1))                           # as after a copy
    assert train_on(folder, **BRIGHT)
    assert 'changed' not in capsys.readouterr().err
    data = bytearray(path.read_bytes())
    data[-1] ^= 1                                       # of the same size
    path.write_bytes(data)
    os.utime(path, ns=(2, 2))
    train_on(folder, **BRIGHT)
    assert '(1.png)' in capsys.readouterr().err


def test_after_a_copy_the_bytes_are_looked_at_once(folder, monkeypatch):
    for path in (folder / 'in').iterdir():
        os.utime(path, ns=(1, 1))
    train_on(folder, **BRIGHT)
    monkeypatch.setattr(ImageList, 'data', lambda *_: pytest.fail('the bytes are read again'))
    train_on(folder, **BRIGHT)
    make_masks(find_images(folder / 'in'), folder / 'out', Bright(), workers=1, progress=False)


def test_the_split_that_was_last_counts(folder, capsys):
    """After a change, shards take the place of what an undivided build left."""
    images = find_images(folder / 'in')
    paint(folder / 'in' / '1.png', columns=8, dark=101)       # nothing is dark: skipped
    make_masks(images, folder / 'out', Bright(), workers=1, progress=False)
    paint(folder / 'in' / '1.png', columns=8)
    paint(folder / 'in' / '2.png', columns=9)
    for i in range(2):
        make_masks(images, folder / 'out', Bright(), workers=1, shard=(i, 2), progress=False)
    assert not list(check_masks(MaskStore(folder / 'out').of(images), progress=False))
    store, used = train_on(folder)
    assert (len(used), store.skipped(), store.info['masks']) == (5, {}, 5)
    assert make_masks(images, folder / 'out', Bright(), workers=1).changed == 0
    assert 'changed' not in capsys.readouterr().err


def test_training_is_refused_where_nothing_says_how_masks_are_made(folder):
    for i in (0, 1, 3, 4):
        paint(folder / 'in' / f'{i}.png', columns=7, dark=3)
    with pytest.raises(UsageError) as error:
        train_on(folder)
    assert '4 of 5 images, or what their regions are from, have changed' in str(error.value)
    assert '(0.png, 1.png, 3.png, …)' in str(error.value)
    run_printed_command(str(error.value).split('make their masks again: densessl ')[1])
    train_on(folder)
    assert [bright_columns(folder, i) for i in range(5)] == [7, 7, 3, 7, 7]
    with pytest.raises(UsageError, match=r'1 of 5 images, .* have changed'):
        paint(folder / 'in' / '2.png', columns=1)
        make_shards(find_images(folder / 'in'), folder / 'shards', masks=folder / 'out')


def run_printed_command(text):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(shlex.split(text)[1:])) == 0


def test_the_printed_command_can_be_pasted(tmp_path):
    folder = tmp_path / "a b's"
    maps = folder / 'label maps'
    maps.mkdir(parents=True)
    (folder / 'in').mkdir()
    for i in range(2):
        paint(folder / 'in' / f'{i}.png', columns=i + 1)
        Image.fromarray(np.eye(8, 10, dtype=np.uint8)).save(maps / f'{i}.png')
    generator = MASK_GENERATORS.build(dict(type='label_maps', folder=str(maps)))
    make_masks(find_images(folder / 'in'), folder / 'out', generator, workers=1, progress=False)
    paint(folder / 'in' / '1.png', columns=5)
    with pytest.raises(UsageError) as error:
        train_on(folder)
    run_printed_command(str(error.value).split('make their masks again: densessl ')[1])
    train_on(folder)


@pytest.mark.parametrize('workers', [1, 2])
def test_make_masks_sees_changes_and_check_does_first(folder, workers, capsys):
    paint(folder / 'in' / '4.png', columns=6)
    images = find_images(folder / 'in')
    assert dict(check_masks(MaskStore(folder / 'out').of(images), progress=False)) == {
        '4.png': CHANGED}
    generator = MASK_GENERATORS.build(dict(type='grid', rows=1, cols=2))
    other = folder / 'grid'
    make_masks(images, other, generator, workers=workers, progress=False)
    paint(folder / 'in' / '0.png', columns=2)
    summary = make_masks(images, other, generator, workers=workers, progress=False)
    assert (summary.made, summary.kept, summary.changed) == (1, 4, 1)
    assert not list(check_masks(MaskStore(other).of(images), progress=False))


def test_shards_and_an_interrupted_build_know_their_images(folder):
    images = find_images(folder / 'in')
    for i in range(2):
        make_masks(images, folder / 'two', Bright(), workers=1, shard=(i, 2), progress=False)
    assert (folder / 'two' / RECORD).exists()
    paint(folder / 'in' / '3.png', columns=1)
    assert [make_masks(images, folder / 'two', Bright(), workers=1, shard=(i, 2),
                       progress=False).changed for i in range(2)] == [0, 1]

    class Stops(Bright):
        calls = 0

        def __call__(self, image):
            Stops.calls += 1
            if Stops.calls > 3:
                raise KeyboardInterrupt
            return super().__call__(image)

    with pytest.raises(KeyboardInterrupt):
        make_masks(images, folder / 'half', Stops(), workers=1, progress=False)
    paint(folder / 'in' / '1.png', columns=8)
    summary = make_masks(images, folder / 'half', Bright(), workers=1, progress=False)
    assert (summary.made, summary.kept, summary.changed) == (3, 2, 1)
    assert not list(check_masks(MaskStore(folder / 'half').of(images), progress=False))


def test_of_a_killed_build_the_times_decide(folder):
    """What a killed build knew is lost; an image written after its mask has changed."""
    shutil.rmtree(folder / 'out' / '.shards')
    (folder / 'out' / RECORD).unlink()
    paint(folder / 'in' / '0.png', columns=6)
    state = os.stat(folder / 'out' / '0.png').st_mtime_ns
    os.utime(folder / 'in' / '0.png', ns=(state + 10 ** 9,) * 2)
    summary = make_masks(find_images(folder / 'in'), folder / 'out', Bright(), workers=1,
                         progress=False)
    assert (summary.made, summary.kept) == (1, 4)
    assert bright_columns(folder, 0) == 6


def test_an_image_that_can_no_longer_be_divided_keeps_no_old_mask(folder, capsys):
    paint(folder / 'in' / '3.png', columns=1, dark=200)
    (folder / 'in' / '1.png').write_bytes(b'not an image')
    store, images = train_on(folder, **BRIGHT)
    assert [images.name(i) for i in range(len(images))] == ['0.png', '2.png', '4.png']
    assert not store.store.has('3.png') and not store.store.has('1.png')
    assert set(store.skipped()) == {'1.png', '3.png'}
    store, images = train_on(folder)                    # which makes no masks: all that can be is
    assert len(images) == 3
    paint(folder / 'in' / '1.png', columns=6)           # and again it can
    make_masks(find_images(folder / 'in'), folder / 'out', Bright(), workers=1, progress=False)
    assert len(train_on(folder)[1]) == 4 and bright_columns(folder, 1) == 6


def test_a_second_run_waits_while_the_first_makes_masks_again(folder, capsys):
    paint(folder / 'in' / '2.png', columns=9)
    lock = BuildLock(folder / 'out')
    lock.__enter__()
    threading.Timer(1.0, lock.__exit__, (None, None, None)).start()
    train_on(folder, **BRIGHT)
    assert 'is being built by another process' in capsys.readouterr().err
    assert bright_columns(folder, 2) == 9


def test_a_store_that_cannot_be_written_says_what_for(folder, monkeypatch):
    def refuse(*_, **__):
        raise UsageError('cannot write it')

    paint(folder / 'in' / '2.png', columns=9)
    monkeypatch.setattr('densessl.masks.find.make_masks', refuse)
    with pytest.raises(UsageError, match=r'1 of 5 images, .* have changed .*\(cannot write it\)'):
        train_on(folder, **BRIGHT)


def test_a_record_follows_names_when_the_list_grows(folder, capsys):
    paint(folder / 'in' / '00.png', columns=3)          # first in the list
    paint(folder / 'in' / '4.png', columns=1)
    images = find_images(folder / 'in')
    summary = make_masks(images, folder / 'out', Bright(), workers=1, progress=False)
    assert (summary.made, summary.kept, summary.changed) == (2, 4, 1)


@pytest.fixture
def mapped(tmp_path):
    """Images whose regions are in files: what builds each of the two generators that read them."""
    (tmp_path / 'maps').mkdir()
    entries = [{'id': i, 'file_name': f'{i}.png', 'height': 8, 'width': 10} for i in range(3)]
    for i in range(3):
        paint(tmp_path / 'in' / f'{i}.png', columns=i + 1)
        write_map(tmp_path / 'maps' / f'{i}.png', rows=2)
        entries[i]['old'] = 1
    for name, panoptic in (('instances', False), ('maps', True)):
        (tmp_path / f'{name}.json').write_text(json.dumps({'images': entries, 'annotations': [
            {'image_id': i, **({'segments_info': [], 'file_name': f'{i}.png'} if panoptic else
                               {'segmentation': [[0, 0, 4, 0, 4, 4, 0, 4]]})} for i in range(3)]}))
    return tmp_path


def write_map(path, rows):
    Image.fromarray((np.arange(8) < rows).astype(np.uint8)[:, None].repeat(10, 1)).save(path)


GENERATORS = {'label_maps': dict(folder='maps'), 'coco': dict(annotations='instances.json'),
              'panoptic': dict(type='coco', annotations='maps.json')}


@pytest.mark.parametrize(('kind', 'file', 'changed'), [
    ('label_maps', 'maps/1.png', 1), ('coco', 'instances.json', 3), ('panoptic', 'maps/1.png', 1),
    ('panoptic', 'maps.json', 3)])
def test_the_files_that_regions_are_from_count(mapped, monkeypatch, capsys, kind, file, changed):
    monkeypatch.chdir(mapped)
    masks = {'type': kind, **GENERATORS[kind]}
    generator, images = MASK_GENERATORS.build(masks), find_images(mapped / 'in')
    options = dict(workers=1, progress=False)
    make_masks(images, mapped / 'out', generator, **options)
    before = (mapped / 'out' / '1.png').read_bytes()
    for path in (mapped / 'maps').iterdir():
        os.utime(path, ns=(1, 1))                       # as after a copy: the bytes are the same
    assert make_masks(images, mapped / 'out', generator, **options).kept == 3
    if file.endswith('.png'):
        write_map(mapped / file, rows=5)
    else:
        text = (mapped / file).read_text()
        (mapped / file).write_text(text.replace('"old"', '"new"').replace('[0, 0, 4', '[1, 0, 4'))
    wrong = dict(check_masks(MaskStore('out').of(images), progress=False))
    assert len(wrong) == changed and set(wrong.values()) == {CHANGED}
    with pytest.raises(UsageError, match=f'{changed} of 3 images, or what their regions are from'):
        train_on(mapped)
    train_on(mapped, **masks)
    assert f'{changed} of 3 images, or what' in capsys.readouterr().err
    assert ((mapped / 'out' / '1.png').read_bytes() != before) == (file != 'maps.json')
    assert not list(check_masks(MaskStore('out').of(images), progress=False))
    assert make_masks(images, mapped / 'out', generator, **options).kept == 3


def test_a_label_map_that_is_gone_leaves_no_mask(mapped):
    generator = MASK_GENERATORS.build(dict(type='label_maps', folder=str(mapped / 'maps')))
    images = find_images(mapped / 'in')
    make_masks(images, mapped / 'out', generator, workers=2, progress=False)
    (mapped / 'maps' / '1.png').unlink()
    summary = make_masks(images, mapped / 'out', generator, workers=2, progress=False)
    assert (summary.kept, summary.changed, list(summary.skipped)) == (2, 1, ['1.png'])
    shutil.rmtree(mapped / 'maps')          # as on another machine: the masks are all there is
    assert len(train_on(mapped)[1]) == 2


def test_a_killed_build_does_not_keep_masks_older_than_their_label_maps(mapped):
    generator = MASK_GENERATORS.build(dict(type='label_maps', folder=str(mapped / 'maps')))
    images = find_images(mapped / 'in')
    make_masks(images, mapped / 'out', generator, workers=1, progress=False)
    shutil.rmtree(mapped / 'out' / '.shards')
    (mapped / 'out' / RECORD).unlink()
    later = os.stat(mapped / 'out' / '1.png').st_mtime_ns + 10 ** 9
    os.utime(mapped / 'maps' / '1.png', ns=(later, later))
    summary = make_masks(images, mapped / 'out', generator, workers=1, progress=False)
    assert (summary.made, summary.kept) == (1, 2)


def test_a_store_that_knows_of_images_alone_is_read(mapped, capsys):
    generator = MASK_GENERATORS.build(dict(type='label_maps', folder=str(mapped / 'maps')))
    images = find_images(mapped / 'in')
    make_masks(images, mapped / 'out', generator, workers=1, progress=False)
    for record in (mapped / 'out').rglob('*.npz'):
        with np.load(record) as content:
            states, digest = content['states'], content['digest']
        np.savez(record, states=repack_fields(states[[*states.dtype.names[:4]]]), digest=digest)
    write_map(mapped / 'maps' / '1.png', rows=5)
    train_on(mapped)
    assert not capsys.readouterr().err
    paint(mapped / 'in' / '2.png', columns=9)
    with pytest.raises(UsageError, match=r'1 of 3 images, .*\(2.png\)'):
        train_on(mapped)


def test_a_store_cannot_name_other_code_than_a_generator(folder):
    path = folder / 'out' / INFO
    info = json.loads(path.read_text())
    for odd in ({'generator': 'subprocess.Popen', 'parameters': {'args': ['false']}},
                {'parameters': {'type': 'subprocess.Popen', 'args': ['false']}}):
        path.write_text(json.dumps(info | odd))
        assert not isinstance(generator_of(MaskStore(folder / 'out').info), subprocess.Popen)


@pytest.mark.parametrize('content', [b'', b'nonsense', None])
def test_a_store_without_a_record_still_opens(folder, content, capsys):
    record = folder / 'out' / RECORD
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    paint(folder / 'in' / '2.png', columns=9)
    _, images = train_on(folder)
    assert len(images) == 5
    assert ('cannot be used' in capsys.readouterr().err) == (content is not None)


def test_every_flipped_bit_of_a_record_is_noticed(folder, capsys):
    record = folder / 'out' / RECORD
    whole = record.read_bytes()
    wrong = 0
    for at in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        record.write_bytes(damaged)
        train_on(folder)            # never taken for a change of the images
        wrong += 'cannot be used' in capsys.readouterr().err
    assert wrong > len(whole) / 5 / 3
