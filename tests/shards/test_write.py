"""Writing tar shards: what another reader finds in them, the same bytes, resuming, refusals."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tar_samples import draw, grouped, masked, names_of, numbered

from densessl.errors import UsageError
from densessl.files.lock import BuildLock
from densessl.images.find import find_images
from densessl.masks.find import store_for_training
from densessl.masks.metadata import INFO as MASK_INFO
from densessl.shards import copy as tar_copy
from densessl.shards.write import make_shards

ODD = ['a.b.c.jpg', 'a.b/c.d.png', '100%.jpg', '%2E.jpg', 'A.JPG', 'two words.jpg', 'new\nline.jpg',
       'ünï.jpg', 'n' * 200 + '.jpg', f'{"d" * 120}/{"e" * 150}/{"f" * 90}.x.jpg',
       os.fsdecode(b'\xff\xfe.jpg'), 'z/.odd.jpg.jpg']


def shards(out):
    return sorted(out.glob('*.tar'))


def digests(out):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards(out)]


def write(images, out, **options):
    return make_shards(images, out, progress=False, **{'shard_size': 110_000, **options})


@pytest.mark.parametrize('maps', [1, 3])
def test_another_reader_finds_every_byte(tmp_path, maps):
    images = draw(tmp_path / 'in', [*numbered(40), *ODD])
    store = masked(tmp_path / 'masks', images, maps)
    summary = write(images, tmp_path / 'out', masks=store.root)
    assert len(shards(tmp_path / 'out')) == summary.written > 1 and summary.images == len(images)
    samples = [sample for path in shards(tmp_path / 'out') for sample in grouped(path)]
    assert len(samples) == len({key for key, _ in samples}) == len(images)
    for i, (key, members) in enumerate(samples):
        stem, extension = os.path.splitext(images.name(i))
        folder, base = os.path.split(key)
        base = base.replace('%2E', '.').replace('%25', '%')
        assert os.path.join(folder, base) == stem
        assert members.pop(extension[1:]) == images.path(i).read_bytes()
        wanted = {'mask.png' if maps == 1 else f'{which}.mask.png':
                  store.path(images.name(i), which).read_bytes() for which in range(maps)}
        assert members == wanted


def test_names_of_a_list_need_no_extension(tmp_path):
    names = ['x/plain', 'x/plain.', 'x/.jpg', 'x/..png', 'x/a.odd', 'x/b.mask.png', 'x/b.0']
    draw(tmp_path / 'in', names)
    (tmp_path / 'list.txt').write_text('\n'.join(f'in/{name}' for name in names))
    images = find_images(tmp_path / 'list.txt')
    assert write(images, tmp_path / 'out').images == 7
    found = find_images(tmp_path / 'out')
    assert names_of(found) == names_of(images) and found.digest() == images.digest()
    assert all(found.data(i) == images.data(i) for i in range(7))


def test_gnu_tar_reads_them(tmp_path):
    images = draw(tmp_path / 'in', numbered(9))
    write(images, tmp_path / 'out', shard_size=10 ** 6)
    (tmp_path / 'x').mkdir()
    subprocess.run(['tar', '-xf', tmp_path / 'out' / '000000.tar'], cwd=tmp_path / 'x', check=True)
    unpacked = find_images(tmp_path / 'x')
    assert unpacked.digest() == images.digest()
    assert all(unpacked.data(i) == images.data(i) for i in range(len(images)))


def test_the_same_input_gives_the_same_bytes(tmp_path):
    images = draw(tmp_path / 'in', numbered(60))
    store = masked(tmp_path / 'masks', images)
    write(images, tmp_path / 'one', masks=store.root, workers=1)
    for path in (tmp_path / 'in').rglob('*.jpg'):
        os.utime(path, (1, 2))
        path.chmod(0o600)
    write(images, tmp_path / 'two', masks=store.root, workers=3)
    assert digests(tmp_path / 'one') == digests(tmp_path / 'two')
    assert len(digests(tmp_path / 'one')) > 1
    sizes = [path.stat().st_size for path in shards(tmp_path / 'one')]
    assert max(sizes) <= 110_000 and min(sizes[:-1]) > 80_000


def test_an_image_larger_than_a_shard_is_one(tmp_path):
    images = draw(tmp_path / 'in', ['a.png', 'b.png', 'c.png'])
    large = np.random.default_rng(0).bytes(300_000)
    (tmp_path / 'in' / 'b.png').write_bytes(images.data(1) + large)
    assert write(images, tmp_path / 'out').written == 3
    assert [len(grouped(path)) for path in shards(tmp_path / 'out')] == [1, 1, 1]


# -- stopping and going on ------------------------------------------------------------------------

SLOW = '''
import sys, time
from densessl.cli import main
from densessl.shards.copy import ShardCopy
data = ShardCopy._data
def slow(self, i, which):
    time.sleep(0.01)
    return data(self, i, which)
ShardCopy._data = slow
sys.exit(main(sys.argv[1:]))
'''


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_call_goes_on(tmp_path, how):
    images, out = draw(tmp_path / 'in', numbered(120)), tmp_path / 'out'
    child = subprocess.Popen(
        [sys.executable, '-c', SLOW, 'make_shards', str(tmp_path / 'in'), str(out), '--shard-size',
         '110KB', '--workers', '1'], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / '000001.tar').exists() or not list(out.glob('.000002.tar.*.part')):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    child.send_signal(how)
    said = child.communicate()[1]
    if how == signal.SIGINT:
        assert child.returncode == 1 and 'the same command goes on' in said
        assert 'Traceback' not in said
    with pytest.raises(UsageError, match=r'unfinished: run the same "densessl make_shards" again'):
        find_images(out)
    summary = write(images, out)
    assert summary.kept >= 2 and summary.written >= 1
    write(images, tmp_path / 'whole')
    assert digests(out) == digests(tmp_path / 'whole')
    assert {path.name for path in out.iterdir()} == {path.name
                                                     for path in (tmp_path / 'whole').iterdir()}
    assert find_images(out).digest() == images.digest()
    assert write(images, out).written == 0


def test_what_changed_is_written_again_and_nothing_else(tmp_path):
    images, out = draw(tmp_path / 'in', numbered(60)), tmp_path / 'out'
    whole = write(images, out)
    path = images.path(len(images) - 1)
    other = path.read_bytes()[::-1]                  # as long
    path.write_bytes(other)
    os.utime(path, ns=(time.time_ns() + 10 ** 9,) * 2)
    summary = write(images, out)
    assert (summary.written, summary.kept) == (1, whole.written - 1)
    assert find_images(out).data(len(images) - 1) == other
    os.utime(path)
    shards(out)[1].write_bytes(b'short')
    shards(out)[2].unlink()
    assert write(images, out).written == 2


def test_images_that_change_places_are_written_again(tmp_path):
    images, out = draw(tmp_path / 'in', numbered(60)), tmp_path / 'out'
    for i in range(60):
        os.utime(images.path(i), ns=(1, 1))
    whole = write(images, out)
    assert write(images, out).written == 0
    one, two, aside = images.path(0), images.path(1), tmp_path / 'aside'
    data, other = one.read_bytes(), two.read_bytes()
    for source, place in ((one, aside), (two, one), (aside, two)):     # sizes and times move along
        source.rename(place)
    summary = write(images, out)
    assert (summary.written, summary.kept) == (1, whole.written - 1)
    found = find_images(out)
    assert (found.data(0), found.data(1)) == (other, data)
    (tmp_path / 'old').write_bytes(images.data(59)[::-1])
    os.utime(tmp_path / 'old', ns=(1, 1))
    shutil.copy2(tmp_path / 'old', images.path(59))                    # as cp -p does
    assert write(images, out).written == 1
    assert find_images(out).data(59) == (tmp_path / 'old').read_bytes()


def test_a_shard_whose_images_are_of_other_sizes_is_written_again(tmp_path):
    """Links that change places: the files they lead to keep their times."""
    images, out = draw(tmp_path / 'in', ['a.jpg', 'b.jpg']), tmp_path / 'out'
    for i, name in enumerate('ab'):
        images.path(i).rename(tmp_path / name)
        with (tmp_path / name).open('ab') as file:
            file.write(bytes(-file.tell() % 512 + 500 + i))            # as many blocks
        images.path(i).symlink_to(tmp_path / name)
    write(images, out)
    for i, name in enumerate('ba'):
        images.path(i).unlink()
        images.path(i).symlink_to(tmp_path / name)
    assert write(images, out).written == 1
    assert find_images(out).data(0) == (tmp_path / 'b').read_bytes()


def test_a_shorter_list_leaves_no_shard_behind(tmp_path):
    images, out = draw(tmp_path / 'in', numbered(60)), tmp_path / 'out'
    before = write(images, out).written
    for i in range(30):
        images.path(i).write_bytes(b'')
    summary = write(images, out)
    assert summary.written + summary.kept == len(shards(out)) < before
    assert names_of(find_images(out)) == names_of(images)[30:]


# -- what is left out, what is refused ------------------------------------------------------------

def test_unreadable_images_are_left_out_and_listed(tmp_path):
    images = draw(tmp_path / 'in', numbered(12))
    images.path(3).write_bytes(b'')
    images.path(5).unlink()
    images.path(5).symlink_to('nowhere')
    summary = write(images, tmp_path / 'out')
    assert summary.skipped == {images.name(3): 'the file is empty',
                               images.name(5): 'a link to a file that does not exist'}
    found = find_images(tmp_path / 'out')
    assert names_of(found) == [name for i, name in enumerate(names_of(images)) if i not in (3, 5)]
    lines = (tmp_path / 'out' / 'skipped.txt').read_text().splitlines()
    assert lines[0] == f'{images.name(3)}\tthe file is empty' and len(lines) == 2
    for i in range(12):
        images.path(i).unlink()
    with pytest.raises(UsageError, match='none of the 12 images'):
        write(images, tmp_path / 'none')


def test_images_that_the_store_skipped_are_left_out(tmp_path, capsys):
    images = draw(tmp_path / 'in', numbered(12))
    images.path(7).write_text('no image')
    store = masked(tmp_path / 'masks', images)
    write(images, tmp_path / 'out', masks=store.root)
    assert '1 of 12 images have no mask' in capsys.readouterr().err
    _, kept = store_for_training(images, dict(store=str(store.root)), is_builder=True)
    assert len(kept) == 11 and find_images(tmp_path / 'out').digest() == kept.digest()


@pytest.fixture
def made(tmp_path):
    images = draw(tmp_path / 'in', numbered(6))
    masked(tmp_path / 'masks', images)
    write(images, tmp_path / 'out', masks=tmp_path / 'masks')
    return images, tmp_path


def refused(says, *arguments, **options):
    with pytest.raises(UsageError, match=says) as error:
        write(*arguments, **options)
    assert '\n' not in str(error.value)


def test_a_folder_of_something_else_is_refused(made):
    images, folder = made
    masks = folder / 'masks'
    before = digests(folder / 'out')
    refused('another list of images', images.select(range(5)), folder / 'out')
    refused('with masks by halves.*, not no masks', images, folder / 'out')
    masked(folder / 'three', images, 3)
    refused(r'halves\(maps=1\) version 1, not masks by halves\(maps=3\)', images, folder / 'out',
            masks=folder / 'three')
    refused('of 110000 bytes .*, not 220000', images, folder / 'out', masks=masks,
            shard_size=220_000)
    (folder / 'mine').mkdir()
    (folder / 'mine' / 'thesis.tex').touch()
    refused('thesis.tex is not of shards', images, folder / 'mine')
    refused('holds the images themselves', images, folder / 'in')
    refused('cannot write shards to .*: ', images, folder / 'mine' / 'thesis.tex')
    (folder / 'out' / 'shards.json').write_text('{"format": 99}')
    refused('its format is 99', images, folder / 'out', masks=masks)
    assert digests(folder / 'out') == before


def test_one_writer_at_a_time(made):
    images, folder = made
    before = digests(folder / 'out')
    with BuildLock(folder / 'out'):
        refused('is being built by another process', images, folder / 'out',
                masks=folder / 'masks')
    assert digests(folder / 'out') == before


def test_masks_that_do_not_fit_are_refused(made):
    images, folder = made
    refused('not a mask store', images, folder / 'new', masks=folder / 'in')
    refused('another list of images', images.select([0, 1]), folder / 'new', masks=folder / 'masks')
    (folder / 'masks' / f'{os.path.splitext(images.name(2))[0]}.png').unlink()
    refused('densessl make_masks .* again', images, folder / 'new', masks=folder / 'masks')
    info = json.loads((folder / 'masks' / MASK_INFO).read_text())
    del info['complete']
    (folder / 'masks' / MASK_INFO).write_text(json.dumps(info))
    (folder / 'masks' / '.shards' / '0-of-1.json').unlink()
    refused('unfinished', images, folder / 'new', masks=folder / 'masks')
    assert not list(folder.glob('new/*.tar'))


def test_two_images_of_one_key_are_refused(tmp_path):
    images = draw(tmp_path / 'in', ['x/a.jpg', 'x/a.png', 'y/a.jpg'])
    refused('x/a.jpg and x/a.png in .* would be one sample', images, tmp_path / 'out')
    assert write(images.select([1, 2]), tmp_path / 'out').images == 2     # other folders


def test_numbers_out_of_range_are_refused(made):
    images, folder = made
    refused('shards of 5 bytes are too small', images, folder / 'new', shard_size=5)
    refused('workers must be at least 1', images, folder / 'new', workers=0)
    assert not (folder / 'new').exists()


def test_a_file_that_changes_meanwhile_ends_the_call(made, monkeypatch):
    images, folder = made
    look = tar_copy.ShardCopy._data
    monkeypatch.setattr(tar_copy.ShardCopy, '_data', lambda *arguments: look(*arguments) * 30)
    refused('image or mask has changed', images, folder / 'new')

    def vanish(self, i, which):
        self.images.path(3).unlink(missing_ok=True)
        return look(self, i, which)
    monkeypatch.setattr(tar_copy.ShardCopy, '_data', vanish)
    assert not list((folder / 'new').glob('.*.part'))
    refused('004.jpg: No such file.*was there a moment ago', images, folder / 'new')
    monkeypatch.undo()
    assert write(images, folder / 'new').images == 5


def test_shards_are_made_of_shards(made):
    """Cut otherwise, or given masks later."""
    images, folder = made
    write(find_images(folder / 'out'), folder / 'again', masks=folder / 'out', workers=1)
    assert digests(folder / 'again') == digests(folder / 'out')
    write(images, folder / 'bare')
    write(find_images(folder / 'bare'), folder / 'later', masks=folder / 'masks')
    assert digests(folder / 'later') == digests(folder / 'out')
