"""`make_masks`: `--check`, `--preview`, shares of the work by scheduler; odd images, end to end."""
import argparse
import io
import os
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from densessl.cli import main
from densessl.commands.make_masks import add_arguments, run
from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.machine.cores import shard_of_job
from densessl.masks.store import MaskStore
from densessl.pictures.figures import draw_regions
from densessl.pixels.decode import image_size, read_image

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in [*os.environ]:
        if name.startswith('SLURM_') or name in ('RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE'):
            monkeypatch.delenv(name)


def command(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(word) for word in words]))


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        save(tmp_path / 'in' / 'ab'[i % 2] / f'{i}.png',
             RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return tmp_path


def make(folder, *more):
    assert command(folder / 'in', folder / 'out', '--generator', 'grid', '--workers', 1, *more) == 0


# -- check -----------------------------------------------------------------------------------------

def test_a_good_store_is_right(folder, capsys):
    (folder / 'in' / 'text.jpg').write_text('no image')
    make(folder)
    capsys.readouterr()
    assert command(folder / 'in', folder / 'out', '--check') == 0
    line, = capsys.readouterr().out.splitlines()
    assert '6 of 7 images are right' in line and '0 are wrong, 1 were skipped' in line


def test_everything_wrong_is_found(folder, capsys):
    (folder / 'in' / 'text.jpg').write_text('no image')
    make(folder)
    out = folder / 'out'
    (out / 'a' / '0.png').unlink()
    save(out / 'b' / '1.png', np.zeros((16, 12), np.uint8))
    save(out / 'a' / '2.png', np.full((12, 16), 3, np.uint8))
    (out / 'b' / '3.png').write_bytes((out / 'b' / '3.png').read_bytes()[:50])
    save(out / 'a' / '4.png', np.zeros((12, 16, 3), np.uint8))
    (folder / 'in' / 'b' / '5.png').write_bytes(b'')
    save(folder / 'in' / 'new.png', np.zeros((9, 9, 3), np.uint8))
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    capsys.readouterr()
    assert command(folder / 'in', folder / 'out', '--check') == 1
    *lines, total = capsys.readouterr().out.splitlines()
    says = {'a/0.png': 'no mask', 'b/1.png': 'is 12×16, the image 16×12',
            'a/2.png': 'labels up to 3 but none 0', 'b/3.png': 'PNG', 'a/4.png': 'not a PNG label',
            'b/5.png': 'the file is empty', 'new.png': 'no mask'}
    assert {line.split(': ')[0] for line in lines} == set(says)
    for line in lines:
        assert says[line.split(': ')[0]] in line
    assert '0 of 8 images are right' in total and '7 are wrong, 1 were skipped' in total
    assert before == {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_a_share_can_be_checked_and_an_unfinished_store(folder, capsys):
    (folder / 'in' / 'zz.jpg').write_text('no image')     # the seventh: of the first half
    make(folder, '--shard', '1/2')
    capsys.readouterr()
    assert command(folder / 'in', folder / 'out', '--check', '--shard', '1/2') == 0
    assert '3 of 3 images are right' in capsys.readouterr().out
    assert command(folder / 'in', folder / 'out', '--check', '--workers', 1) == 1
    assert '3 of 7 images are right' in (out := capsys.readouterr().out) and 'unfinished' in out
    with pytest.raises(UsageError, match='not a mask store'):
        command(folder / 'in', folder / 'nothing', '--check')
    make(folder, '--shard', '0/2')
    capsys.readouterr()
    for share, words in (('0/2', '3 of 4 images are right'), ('1/2', '3 of 3 images are right')):
        assert command(folder / 'in', folder / 'out', '--check', '--shard', share) == 0
        assert words in (out := capsys.readouterr().out)
        assert f'{int(share == "0/2")} were skipped' in out


def test_every_map_is_checked(folder, capsys):
    assert command(folder / 'in', folder / 'out', '--generator', 'multiscale_felzenszwalb', '--set',
                   'scales=[10, 90]', 'min_size=4', '--workers', 1) == 0
    assert command(folder / 'in', folder / 'out', '--check') == 0
    save(folder / 'out' / '1' / 'a' / '0.png', np.zeros((3, 3), np.uint8))
    capsys.readouterr()
    assert command(folder / 'in', folder / 'out', '--check') == 1
    assert 'is 3×3, the image 16×12' in capsys.readouterr().out


# -- preview ---------------------------------------------------------------------------------------

def test_a_preview_before_and_after_the_build(folder, capsys, monkeypatch):
    assert command(folder / 'in', folder / 'out', '--generator', 'grid', '--preview', 2) == 0
    assert 'made for this picture' in capsys.readouterr().out and not (folder / 'out').exists()
    picture = folder / 'out.preview.jpg'
    small = cv2.imread(str(picture)).shape
    picture.unlink()
    make(folder)
    monkeypatch.setattr('densessl_plugins.masks.grid.Grid.__call__', None)      # not asked again
    assert command(folder / 'in', folder / 'out', '--preview', 4) == 0
    said = capsys.readouterr().out
    assert 'grid(rows=4, cols=4)' in said and 'made for' not in said
    assert cv2.imread(str(picture)).shape == (2 * small[0], *small[1:])


def test_a_preview_of_other_parameters_is_not_of_the_store(folder, capsys):
    make(folder)
    assert command(folder / 'in', folder / 'out', '--generator', 'grid', '--set', 'rows=9',
                   '--preview', 1) == 0
    assert 'rows=9' in (said := capsys.readouterr().out) and 'made for this picture' in said


def test_a_preview_leaves_out_what_cannot_be_drawn(folder, capsys):
    (folder / 'in' / 'a' / '0.png').write_bytes(b'')
    assert command(folder / 'in', folder / 'out', '--generator', 'multiscale_felzenszwalb', '--set',
                   'scales=[10, 50]', '--preview', 99) == 0
    printed = capsys.readouterr()
    assert ': 5 images' in printed.out and 'a/0.png is left out' in printed.err
    with pytest.raises(UsageError, match='at least 1'):
        command(folder / 'in', folder / 'out', '--preview', 0)
    with pytest.raises(SystemExit):
        command(folder / 'in', folder / 'out', '--preview', 1, '--check')


def test_regions_are_told_apart_by_color():
    image = np.full((10, 12, 3), 128, np.uint8)
    labels = np.repeat([[0] * 4 + [1] * 4 + [300] * 4], 10, axis=0).astype(np.uint16)
    picture = draw_regions(image, labels, fill=0.5, lines='thin')
    assert (picture[:, [3, 7]] == 255).all(), 'a white line between two regions'
    colors = [tuple(picture[0, x]) for x in (0, 5, 10)]
    assert len(set(colors)) == 3 and (picture[:, :3] == picture[0, 0]).all()


# -- shares of the work ----------------------------------------------------------------------------

@pytest.mark.parametrize('environment, share', [
    ({}, (0, 1)), ({'WORLD_SIZE': '1', 'RANK': '0'}, (0, 1)),
    ({'WORLD_SIZE': '8', 'RANK': '3'}, (3, 8)),
    ({'SLURM_ARRAY_TASK_COUNT': '4', 'SLURM_ARRAY_TASK_MIN': '1', 'SLURM_ARRAY_TASK_MAX': '4',
      'SLURM_ARRAY_TASK_ID': '4'}, (3, 4)),
    ({'SLURM_ARRAY_TASK_COUNT': '3', 'SLURM_ARRAY_TASK_MIN': '0', 'SLURM_ARRAY_TASK_MAX': '20',
      'SLURM_ARRAY_TASK_STEP': '10', 'SLURM_ARRAY_TASK_ID': '10'}, (1, 3)),
    ({'SLURM_ARRAY_TASK_COUNT': '2', 'SLURM_ARRAY_TASK_MIN': '0', 'SLURM_ARRAY_TASK_MAX': '1',
      'SLURM_ARRAY_TASK_ID': '1', 'SLURM_STEP_NUM_TASKS': '3', 'SLURM_PROCID': '2'}, (5, 6)),
    ({'SLURM_STEP_NUM_TASKS': '4', 'SLURM_PROCID': '2', 'SLURM_NTASKS': '4'}, (2, 4)),
    ({'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'}, (0, 1)),       # a batch script, not srun's process
    ({'SLURM_ARRAY_TASK_COUNT': '1', 'SLURM_ARRAY_TASK_MIN': '5', 'SLURM_ARRAY_TASK_MAX': '5',
      'SLURM_ARRAY_TASK_ID': '5'}, (0, 1)),
])
def test_the_scheduler_tells_the_share(environment, share):
    i, n, who = shard_of_job(environment)
    assert (i, n) == share and bool(who) == (n > 1)


def test_an_array_with_gaps_is_refused():
    with pytest.raises(UsageError, match='give --shard'):
        shard_of_job({'SLURM_ARRAY_TASK_COUNT': '2', 'SLURM_ARRAY_TASK_MIN': '1',
                      'SLURM_ARRAY_TASK_MAX': '7', 'SLURM_ARRAY_TASK_ID': '7'})


def test_an_array_makes_the_whole(folder, monkeypatch, capsys):
    array = {'COUNT': '3', 'MIN': '1', 'MAX': '3', 'ID': ''}
    for task in '312':
        for name, value in (array | {'ID': task}).items():
            monkeypatch.setenv(f'SLURM_ARRAY_TASK_{name}', value)
        make(folder)
        assert f'share {int(task) - 1} of 3 as Slurm says' in capsys.readouterr().out
    assert MaskStore(folder / 'out').complete and MaskStore(folder / 'out').info['masks'] == 6
    monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '1')
    make(folder, '--shard', '0/1')                                      # what is asked for wins
    assert 'Slurm' not in capsys.readouterr().out


def test_torchrun_splits_the_work(folder):
    """Two processes that torchrun starts, as they are, share the images and the cores."""
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         '-m', 'densessl.cli', 'make_masks', folder / 'in', folder / 'out',
         '--generator', 'grid'], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'share 0 of 2' in done.stdout and 'share 1 of 2' in done.stdout
    assert done.stderr.count('3 made, 0 kept') == 2
    assert MaskStore(folder / 'out').complete


# -- odd images, from file to mask -----------------------------------------------------------------

def write_odd_images(root):
    """Odd images of every kind; returns the size (H, W) as displayed of those that are good, and
    the names of the others."""
    root.mkdir()
    waves = (127 + 100 * np.sin(np.arange(30 * 40 * 3).reshape(30, 40, 3) / 50)).astype(np.uint8)
    picture = Image.fromarray(waves)
    kinds = {'grey.jpg': 'L', 'rgba.png': 'RGBA', 'cmyk.jpg': 'CMYK', 'palette.png': 'P'}
    for name, mode in kinds.items():
        picture.convert(mode).save(root / name)
    cv2.imwrite(str(root / 'deep.png'), waves.astype(np.uint16) * 257)
    cv2.imwrite(str(root / 'deep16.tif'), waves.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(root / 'rotated.jpg', exif=exif)
    picture.save(root / 'turned.png', exif=exif)
    Image.new('RGB', (1, 1)).save(root / 'pixel.png')
    save(root / 'tall.png', RNG.integers(0, 256, (20000, 10, 3), dtype=np.uint8))
    save(root / 'wide.png', RNG.integers(0, 256, (10, 20000, 3), dtype=np.uint8))
    picture.save(root / 'animated.gif', save_all=True, append_images=[picture.rotate(180)])
    picture.save(root / 'ünïcode \U0001f40c é.png')
    picture.save(os.fsencode(root) + b'/\xff\xfe.png', 'PNG')
    jpeg = (root / 'rotated.jpg').read_bytes()
    (root / 'truncated.jpg').write_bytes(jpeg[:len(jpeg) // 2])
    (root / 'zero.jpg').write_bytes(b'')
    (root / 'link.jpg').symlink_to('nowhere')
    (root / 'circle.jpg').symlink_to('circle.jpg')
    (root / 'unreadable.jpg').write_bytes(jpeg)
    (root / 'unreadable.jpg').chmod(0)
    header = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + (60000).to_bytes(4, 'big') * 2 + b'\x08\2\0\0\0'
    (root / 'bomb.png').write_bytes(header + zlib.crc32(header[12:]).to_bytes(4, 'big'))
    bad = {'truncated.jpg', 'zero.jpg', 'link.jpg', 'circle.jpg', 'bomb.png'}
    bad |= set() if os.access(root / 'unreadable.jpg', os.R_OK) else {'unreadable.jpg'}     # root's
    plain = [*kinds, 'deep.png', 'deep16.tif', 'animated.gif', 'ünïcode \U0001f40c é.png',
             os.fsdecode(b'\xff\xfe.png')]
    good = dict.fromkeys(plain, (30, 40)) | {
        'rotated.jpg': (40, 30), 'turned.png': (40, 30), 'pixel.png': (1, 1),
        'wide.png': (10, 20000), 'tall.png': (20000, 10)}
    return good | ({} if 'unreadable.jpg' in bad else {'unreadable.jpg': (40, 30)}), bad


@pytest.mark.parametrize('workers', [1, 2])
def test_every_odd_image_has_a_mask_or_is_listed(tmp_path, workers, monkeypatch):
    good, bad = write_odd_images(tmp_path / 'in')

    def make(*words):
        """The command on a terminal that can show plain letters only; what it printed."""
        monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO(), 'ascii'))
        code = main(['make_masks', str(tmp_path / 'in'), str(tmp_path / 'out'), *map(str, words)])
        sys.stdout.flush()
        return code, sys.stdout.buffer.getvalue().decode()
    assert make('--set', 'scale=50', 'min_size=9', '--workers', workers)[0] == 0
    store = MaskStore(tmp_path / 'out')
    assert set(store.skipped()) == bad
    for name, size in good.items():
        assert store.read(name).shape == size == image_size(tmp_path / 'in' / name)
        assert read_image(tmp_path / 'in' / name).shape[:2] == size
    assert store.info['masks'] == len(good) == len(find_images(tmp_path / 'in')) - len(bad)
    assert make('--check')[0] == 0
    assert make('--preview', 99)[0] == 0
    odd = os.fsdecode(b'\xff\xfe.png')
    store.path(odd).unlink()
    code, printed = make('--check')
    assert code == 1 and f'{odd!r}'.strip("'") in printed and '1 are wrong' in printed
