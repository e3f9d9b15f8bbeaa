"""Building masks: processes, interruptions, shards, the command."""
import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import entry_points

import numpy as np
import pytest
from PIL import Image

from densessl.commands.make_masks import add_arguments, run
from densessl.errors import RunFailed, UsageError
from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.masks.find import store_for_training
from densessl.masks.store import MaskStore
from densessl.registry import MASK_GENERATORS

RNG = np.random.default_rng(0)
GRID = dict(type='grid', rows=2, cols=3)

SLOW = '''
import os, time
import numpy as np
from densessl.masks import build as mask_build
from densessl.masks.generator import MaskGenerator

class Slow(MaskGenerator):
    name = 'slow'
    def __init__(self, *, hold=-1, die=-1):
        self.hold, self.die, self.calls = hold, die, 0
    def parameters(self):
        return {}     # so that a build that is held can be finished by one that is not
    def __call__(self, image):
        self.calls += 1
        while self.calls > self.hold >= 0 and not mask_build._work[-1].value:
            time.sleep(0.01)                    # until the builder says that workers must end
        if image[0, 0, 0] == self.die:
            os._exit(9)
        return (image[..., 0] > 100).astype(np.uint8) if image[..., 0].min() <= 100 \\
            else np.zeros(image.shape[:2], int)
'''
MAIN = '''
import sys

if __name__ == '__main__':      # the workers import this file, too, and need none of it
    from densessl.cli import main
    from densessl.registry import MASK_GENERATORS
    from slow_generator import Slow
    MASK_GENERATORS.register_module(name='slow', module=Slow)
    sys.exit(main(['make_masks', *sys.argv[1:]]))
'''


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A generator that worker processes can import, too."""
    folder = tmp_path / 'modules'
    folder.mkdir()
    (folder / 'slow_generator.py').write_text(SLOW)
    (folder / 'build.py').write_text(MAIN)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(path for path in sys.path if path))
    others = {entry.name for entry in entry_points(group='densessl')} - {'masks'}
    monkeypatch.setenv('DENSESSL_DISABLE_PLUGINS', ','.join(others))    # they import torch
    sys.modules.pop('slow_generator', None)
    import slow_generator
    return slow_generator.Slow


def draw(folder, count=6, shape=(12, 16, 3)):
    for i in range(count):
        path = folder / f'{"abc"[i % 3]}' / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():       # of the same images, and more
            Image.fromarray(RNG.integers(1, 256, shape, dtype=np.uint8)).save(path)
    return find_images(folder)


def contents(folder):
    """Every file under `folder` with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def masks_of(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith('.png')}


def grid(rows=2, cols=3):
    return MASK_GENERATORS.build(dict(type='grid', rows=rows, cols=cols))


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited too long'
        time.sleep(0.02)


# -- processes and interruptions -------------------------------------------------------------------

def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    images = draw(tmp_path / 'in', 9)
    felzenszwalb = MASK_GENERATORS.build(dict(type='felzenszwalb', scale=10, min_size=5))
    one = make_masks(images, tmp_path / 'one', felzenszwalb, workers=1)
    two = make_masks(images, tmp_path / 'two', felzenszwalb, workers=2)
    assert one.made == two.made == 9
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')
    # masks.json, skipped.txt, images.npz, and of the shard its mark and record
    assert len(contents(tmp_path / 'one')) == 9 + 5


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_build_is_resumed(tmp_path, slow, number):
    images, out = draw(tmp_path / 'in', 40), tmp_path / 'out'
    builder = subprocess.Popen([sys.executable, tmp_path / 'modules' / 'build.py', images.root, out,
                                '--generator', 'slow', '--set', 'hold=4', '--workers', '2'],
                               stderr=subprocess.PIPE, text=True)
    until(lambda: len(list(out.rglob('*.png'))) >= 4)
    builder.send_signal(number)
    errors = builder.communicate(timeout=120)[1]    # ends when the workers, too, have let go of it
    if number == signal.SIGINT:
        assert builder.returncode == 1 and 'the same command goes on' in errors
        assert 'Traceback' not in errors
    there = masks_of(out)
    assert 4 <= len(there) <= 10        # two workers that make four each, and the one held
    with pytest.raises(UsageError, match='unfinished'):
        store_for_training(images, dict(store=str(out)), is_builder=True)
    summary = make_masks(images, out, slow(), workers=1)
    assert (summary.made, summary.kept) == (40 - len(there), len(there))
    make_masks(images, tmp_path / 'whole', slow(), workers=1)
    assert contents(out) == contents(tmp_path / 'whole')


def test_a_killed_worker_is_said_and_its_work_can_be_resumed(tmp_path, slow):
    images = draw(tmp_path / 'in', 8)
    with pytest.raises(RunFailed, match='fewer workers than 2'):
        make_masks(images, tmp_path / 'out',
                   slow(die=int(np.asarray(Image.open(images.path(5)))[0, 0, 0])), workers=2)
    assert not MaskStore(tmp_path / 'out').complete
    assert make_masks(images, tmp_path / 'out', slow(), workers=1).kept < 8
    assert MaskStore(tmp_path / 'out').complete


# -- shards ----------------------------------------------------------------------------------------

def test_shards_make_the_whole(tmp_path):
    images, out = draw(tmp_path / 'in', 10), tmp_path / 'out'
    (tmp_path / 'in' / 'z.jpg').write_text('no image')
    images = find_images(tmp_path / 'in')
    made = []
    for i in (2, 0, 1):
        assert not made or not MaskStore(out).complete
        made.append(make_masks(images, out, grid(), workers=1, shard=(i, 3)).made)
    assert sorted(made) == [3, 3, 4] or sorted(made) == [2, 4, 4]
    store = MaskStore(out)
    assert store.complete and store.info['masks'] == 10 and list(store.skipped()) == ['z.jpg']
    make_masks(images, tmp_path / 'whole', grid(), workers=1)
    assert masks_of(out) == masks_of(tmp_path / 'whole')
    for name in ('masks.json', 'skipped.txt'):
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_shards_that_run_together_do_not_disturb_each_other(tmp_path):
    images, errors = draw(tmp_path / 'in', 60), []

    def run(i):
        try:
            make_masks(images, tmp_path / 'out', grid(), workers=1, shard=(i, 6), progress=False)
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and MaskStore(tmp_path / 'out').complete
    assert len(masks_of(tmp_path / 'out')) == 60


def test_completeness_follows_from_the_marks_alone(tmp_path):
    """The last shard may not see the others' marks yet (NFS); whoever opens the store then does."""
    images, out = draw(tmp_path / 'in', 4), tmp_path / 'out'
    for i in range(2):
        make_masks(images, out, grid(), workers=1, shard=(i, 2))
    info = json.loads((out / 'masks.json').read_text())
    for key in ('complete', 'masks', 'skipped'):
        del info[key]
    (out / 'masks.json').write_text(json.dumps(info))
    assert MaskStore(out).complete and MaskStore(out).info['masks'] == 4
    (out / '.shards' / '1-of-2.json').unlink()
    assert not MaskStore(out).complete


@pytest.mark.parametrize('shard', [(3, 3), (-1, 3), (0, 0)])
def test_shards_count_from_zero(tmp_path, shard):
    with pytest.raises(UsageError, match='the first is 0/N'):
        make_masks(draw(tmp_path / 'in', 2), tmp_path / 'out', grid(), shard=shard)


def test_new_images_are_added(tmp_path):
    images = draw(tmp_path / 'in', 3)
    make_masks(images, tmp_path / 'out', grid(), workers=1)
    more = draw(tmp_path / 'in', 5)
    asked = dict(store=str(tmp_path / 'out'))
    assert len(store_for_training(more, asked, is_builder=False)[1]) == 3
    summary = make_masks(more, tmp_path / 'out', grid(), workers=1)
    assert (summary.made, summary.kept) == (2, 3)
    assert len(store_for_training(more, asked, is_builder=False)[1]) == 5


# -- the command -----------------------------------------------------------------------------------

def command(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(word) for word in words]))


def test_the_command(tmp_path, capsys):
    draw(tmp_path / 'in', 4)
    assert command(tmp_path / 'in', tmp_path / 'out', '--set', 'scale=20', 'min_size=9',
                   '--workers', 1, '--shard', '1/2') == 0
    info = MaskStore(tmp_path / 'out').info
    assert info['parameters'] == {'scale': 20.0, 'sigma': 0.8, 'min_size': 9}
    assert len(masks_of(tmp_path / 'out')) == 2 and 'complete' not in info
    assert '4 images in ' in capsys.readouterr().out


@pytest.mark.parametrize('words, says', [
    (['--shard', 'x'], r'I/N'), (['--shard', '4/4'], '0/N'), (['--set', 'scale'], 'KEY=VALUE'),
    (['--set', 'scal=2'], "did you mean 'scale'"), (['--set', 'scale=big'], "not 'big'"),
    (['--generator', 'gird'], "did you mean 'grid'"), (['--workers', '0'], 'at least 1')])
def test_a_wrong_command_is_said(tmp_path, words, says):
    draw(tmp_path / 'in', 1)
    with pytest.raises(UsageError, match=says):
        command(tmp_path / 'in', tmp_path / 'out', *words)
    assert not (tmp_path / 'out').exists()
