"""Checkpoints on the disk: flushed, verified, and the one before used if the newest is damaged."""
from __future__ import annotations

import os
import random
import resource

import pytest
import torch

from densessl.engine.checkpoint_file import (
    SAVED,
    checkpoint_to_resume,
    damage,
    has_checksum,
    newest_whole,
    read_checkpoint,
    write_checkpoint,
)
from densessl.errors import UsageError

CONTENT = {'meta': {'iter': 3, 'densessl': {'mean': [1.5, 2.0], 'method': 'x'}},
           'state_dict': {'a': torch.arange(12.0).view(4, 3), 'n': torch.tensor(3)},
           'optimizer': {'state': {0: {'m': torch.ones(3)}}, 'param_groups': [{'lr': 0.1}]}}
FOLDER = b'archive/data/0PK\x01\x02'


def same(one, two):
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return one == two


@pytest.fixture
def whole(tmp_path):
    write_checkpoint(CONTENT, tmp_path / 'whole.pth')
    return tmp_path / 'whole.pth'


def test_every_flipped_bit_is_refused_or_changes_nothing(whole, tmp_path):
    data, path = whole.read_bytes(), tmp_path / 'flipped.pth'
    draw = random.Random(0)
    places = [(draw.randrange(len(data)), draw.randrange(8)) for _ in range(400)]
    places += [(at, 4) for at in range(len(data) - 700, len(data))]     # the list of members: one
    outcomes = {'refused': 0, 'same': 0}    # bit of it makes torch read a tensor as a folder
    for at, bit in places:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:])
        try:
            read = read_checkpoint(path)
        except UsageError as error:
            assert '\n' not in str(error) and str(path) in str(error)
            outcomes['refused'] += 1
        else:
            assert same(CONTENT, read), f'bit {bit} of byte {at} changes what is read'
            outcomes['same'] += 1
    assert outcomes['refused'] > 400 and outcomes['same'] > 20


@pytest.mark.parametrize('keep', [0, 1, 100, 0.5, 0.9, -1])
def test_a_file_that_was_cut_is_damaged(keep, whole):
    data = whole.read_bytes()
    whole.write_bytes(data[:keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(UsageError, match=r'whole\.pth is (damaged: |not a checkpoint)'):
        read_checkpoint(whole)


def test_files_without_checksums_are_read_and_told_apart(whole, tmp_path):
    torch.save(CONTENT, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    files = {'whole': True, 'old': False}
    if hasattr(torch.serialization, 'set_crc32_options'):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(CONTENT, tmp_path / 'without.pth')
        finally:
            torch.serialization.set_crc32_options(True)
        files['without'] = False
    for name, has in files.items():
        path = tmp_path / f'{name}.pth'
        assert has_checksum(path) is has and damage(path) == ''
        assert same(CONTENT, read_checkpoint(path))


def test_a_file_is_flushed_before_its_rename_and_its_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor):
        path = os.readlink(f'/proc/self/fd/{descriptor}')
        events.append(('flush', 'folder' if os.path.isdir(path) else os.path.getsize(path)))
        fsync(descriptor)
    monkeypatch.setattr(os, 'fsync', flushed)
    monkeypatch.setattr(os, 'replace', lambda *to: (events.append(('rename',)), replace(*to)))
    write_checkpoint(CONTENT, tmp_path / 'a.pth')
    size = (tmp_path / 'a.pth').stat().st_size
    assert events == [('flush', size), ('rename',), ('flush', 'folder')]


def test_without_room_the_old_file_stays_and_the_reason_is_told(tmp_path):
    path = tmp_path / 'a.pth'
    write_checkpoint(CONTENT, path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            write_checkpoint(CONTENT, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert same(CONTENT, read_checkpoint(path)) and len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def run(tmp_path):
    """A run's folder with three checkpoints."""
    for step in (2, 10, 9):
        write_checkpoint({**CONTENT, 'meta': {'iter': step}}, tmp_path / f'iter_{step}.pth')
    return tmp_path


def break_(path, how):
    data = bytearray(path.read_bytes())
    data[data.index(b'optimizer')] ^= 1
    path.write_bytes({'empty': b'', 'half': data[:len(data) // 2], 'bit': data}[how])


@pytest.mark.parametrize('how', ['empty', 'half', 'bit'])
def test_the_one_before_a_damaged_one_is_used_and_said(how, run):
    said = []
    assert newest_whole(run, said.append).name == 'iter_10.pth' and said == []
    break_(run / 'iter_10.pth', how)
    assert newest_whole(run, said.append).name == 'iter_9.pth'
    line, = said
    assert 'iter_10.pth is damaged: ' in line and 'using iter_9.pth' in line
    with pytest.raises(UsageError, match=r'iter_10\.pth is damaged.*iter_9\.pth beside it is whole'
                       ):
        read_checkpoint(run / 'iter_10.pth')


@pytest.mark.parametrize('other', [
    {'a': 1}, {'state_dict': {}}, {'meta': {}}, {'state_dict': 3, 'meta': {}},
    {'state_dict': {}, 'meta': {'iter': 'three'}}])
def test_what_is_no_checkpoint_of_a_run_is_passed_over(other, run):
    torch.save(other, run / 'iter_10.pth')
    said = []
    assert newest_whole(run, said.append).name == 'iter_9.pth'
    assert 'iter_10.pth is not the checkpoint of a run: it has no ' in said[0]


def test_nothing_is_resumed_where_all_is_damaged_or_gone(run):
    for path in run.glob('*.pth'):
        break_(path, 'half')
    with pytest.raises(UsageError, match=r'nothing to resume.*iter_10\.pth is damaged.*another'):
        checkpoint_to_resume(run, print)
    for path in run.glob('*.pth'):
        path.unlink()
    assert checkpoint_to_resume(run, print) is None         # nothing says that one was saved
    (run / 'last_checkpoint').write_text('somewhere/iter_10.pth')
    with pytest.raises(UsageError, match=r'although last_checkpoint says that one was saved; put'):
        checkpoint_to_resume(run, print)
    (run / 'last_checkpoint').unlink()
    (run / '20260101').mkdir()
    log = run / '20260101' / '20260101.log'
    log.write_text('Saving checkpoint at 1 iterations\n')   # it was only begun
    assert checkpoint_to_resume(run, print) is None
    log.write_text(f'{SAVED}iter_1.pth\n')
    with pytest.raises(UsageError, match=r'although 20260101/20260101\.log says'):
        checkpoint_to_resume(run, print)
    assert checkpoint_to_resume(run, print, since=log.stat().st_mtime + 1) is None


def test_a_checkpoint_of_another_name_is_found_by_the_record_of_the_last(tmp_path):
    write_checkpoint(CONTENT, tmp_path / 'model-7.pth')
    (tmp_path / 'last_checkpoint').write_text('/moved/from/model-7.pth')
    assert newest_whole(tmp_path, print).name == 'model-7.pth'


def test_what_a_killed_write_left_goes_with_the_next_one(tmp_path):
    old, new, other = (tmp_path / f'.{name}.part' for name in (
        'b.pth.4194303', 'b.pth.4194302', 'c.pth.4194303'))     # above any pid that lives
    for part in (old, new, other):
        part.write_bytes(b'half')
    for part in (old, other):
        os.utime(part, (1, 1))
    mine = tmp_path / f'.b.pth.{os.getppid()}.part'             # of a process that lives
    mine.write_bytes(b'half')
    os.utime(mine, (1, 1))
    write_checkpoint({'a': 1}, tmp_path / 'b.pth')
    assert not old.exists()
    assert new.exists() and other.exists() and mine.exists()
