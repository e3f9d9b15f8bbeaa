"""Errors of the machine are one line, with what to do and what is kept."""
from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from limits import files_of_at_most

from densessl.cli import main
from densessl.commands import plugins
from densessl.environment import explain, is_of_machine, saying
from densessl.errors import RunFailed, UsageError
from densessl.files.json_files import write_json
from densessl.files.writing import atomic_path, writing

PEER = ('[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer '
        '[127.0.0.1]:57434\nmore\nwall')
ALLOCATOR = ("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
             'memory: you tried to allocate 4000000000000000 bytes. Error code 12')


@pytest.mark.parametrize('error, code, words', [
    (OSError(errno.ENOSPC, 'No space left', '/x/y.pth'), 1, '/x/y.pth: the disk is full: free'),
    (OSError(errno.EDQUOT, 'Quota', 'z'), 1, 'z: the disk quota is used up'),
    (OSError(errno.EFBIG, 'big', 'z'), 1, 'ulimit -f'),
    (OSError(errno.EIO, 'io', 'z'), 1, 'z: the disk failed'),
    (OSError(errno.EROFS, 'ro', 'z'), 2, 'z: the file system is read-only: choose another'),
    (PermissionError(errno.EACCES, 'no', 'z'), 2, 'z: permission denied: choose another place'),
    (OSError(errno.ENAMETOOLONG, 'long', 'n' * 5000), 2, 'the name is too long'),
    (OSError(errno.EMFILE, 'many', 'z'), 1, 'ulimit -n'),
    (MemoryError(), 1, 'take a smaller batch'),
    (RuntimeError(ALLOCATOR), 1, 'allocate 4000000000000000 bytes'),
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'), 1, '2.00 GiB'),
    (RuntimeError(PEER), 1, 'another process of this run has ended'),
    (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error.'), 1, '/dev/shm'),
    (RuntimeError('[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file '
                  'data/12: file write failed'), 1, 'the disk is full')])
def test_one_line_and_the_right_code(error, code, words, monkeypatch, capsys):
    def fail(args):
        raise error
    monkeypatch.setattr(plugins, 'run', fail)
    assert main(['plugins']) == code
    said = capsys.readouterr().err
    assert said.startswith('densessl plugins: ') and words in said
    assert said.count('\n') == 1 and len(said) < 400
    with pytest.raises(type(error)):
        main(['plugins', '--debug'])


def test_other_errors_stay_errors(monkeypatch):
    def fail(args):
        raise RuntimeError('mat1 and mat2 shapes cannot be multiplied')
    monkeypatch.setattr(plugins, 'run', fail)
    with pytest.raises(RuntimeError, match='mat1'):
        main(['plugins'])
    assert explain(KeyError('x')) is None and not is_of_machine(ValueError('x'))
    assert is_of_machine(OSError(errno.ENOSPC, '')) and not is_of_machine(OSError(errno.ENOENT, ''))


@pytest.mark.parametrize('words', [['--work-dir', ''], ['--work-dir='], ['--data', 'a\0b'],
                                   ['--work-dir', ' '], ['--data=']])
def test_an_empty_argument_is_not_the_present_folder(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['train', 'small/byol_r18', *words]) == 2
    assert capsys.readouterr().err.count('\n') == 1 and not any(tmp_path.iterdir())


def test_a_file_that_does_not_fit_is_named_and_leaves_what_was_there(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(b'good')
    with files_of_at_most(10 ** 5), pytest.raises(RunFailed, match=r'cannot write .*weights'), \
            atomic_path(path) as unfinished:
        torch.save(torch.zeros(10 ** 5), unfinished)
    assert path.read_bytes() == b'good' and list(tmp_path.iterdir()) == [path]
    with files_of_at_most(10 ** 4), pytest.raises(RunFailed, match=r'cannot write .*\.npy: '), \
            atomic_path(tmp_path / 'x.npy') as unfinished, unfinished.open('wb') as file:
        np.save(file, np.zeros(10 ** 4))    # NumPy's error has no number
    with files_of_at_most(10), pytest.raises(RunFailed, match=r'cannot write .*json: a file may'):
        write_json(tmp_path / 'x.json', {'a': 'b' * 100})
    with pytest.raises(UsageError, match=r'cannot write .*: a part of the path is a file'), \
            atomic_path(path / 'below') as unfinished:
        unfinished.write_text('x')
    with pytest.raises(ZeroDivisionError), writing(path):
        raise ZeroDivisionError


def test_what_is_kept_is_said_last():
    with pytest.raises(RunFailed, match=r'^the disk is full: free some space; iter_5 is kept'), \
            saying(lambda: 'iter_5 is kept'):
        raise OSError(errno.ENOSPC, 'full')
    with pytest.raises(OSError, match='full'), saying(lambda: ''):
        raise OSError(errno.ENOSPC, 'full')
    with pytest.raises(ValueError, match='x'), saying(lambda: 'kept'):
        raise ValueError('x')
    with pytest.raises(UsageError, match=r'^wrong$'), saying(lambda: 'kept'):
        raise UsageError('wrong')


LOST = """
import os, sys, torch
from torch import distributed
from densessl.cli import _run
import argparse, types
from densessl.commands import plugins
distributed.init_process_group('gloo')
def fail(args):
    distributed.all_reduce(torch.zeros(2))
    if distributed.get_rank() == 1:
        os._exit(9)
    distributed.all_reduce(torch.zeros(2))
plugins.run = fail
code = _run(argparse.Namespace(command='plugins', debug=False), [])
os._exit(code)
"""


def test_a_lost_peer_is_one_line(tmp_path):
    (tmp_path / 'lost.py').write_text(LOST)
    rendezvous = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '29655', 'WORLD_SIZE': '2'}
    both = [subprocess.Popen([sys.executable, 'lost.py'], cwd=tmp_path, stderr=subprocess.PIPE,
                             text=True, env={**os.environ, **rendezvous, 'RANK': str(rank)})
            for rank in range(2)]
    said = both[0].communicate(timeout=120)[1].strip().splitlines()
    assert both[1].wait(10) == 9 and both[0].returncode == 1
    assert said[-1].startswith('densessl plugins: another process of this run has ended')
    assert not any('Traceback' in line for line in said)
