"""Which process of how many this is, as each launcher says it; what a dry run tells; and who is
missing when processes are to meet."""
from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from gloo import free_port
from torch import distributed
from torch.distributed import TCPStore

from densessl.cli import main
from densessl.engine import meeting
from densessl.engine.launch import Launch, expand_counts, expand_hosts, read_launch
from densessl.engine.meeting import PeersLost, meet, missing_named, roll_call
from densessl.errors import RunFailed, UsageError

STEP = {'SLURM_JOB_ID': '4711', 'SLURM_STEP_NUM_TASKS': '7', 'SLURM_STEP_NODELIST': 'gpu[07,11]',
        'SLURM_STEP_TASKS_PER_NODE': '4,3', 'SLURM_PROCID': '5', 'SLURM_LOCALID': '1',
        'SLURM_NTASKS': '7', 'SLURM_JOB_NODELIST': 'gpu[07,11,13]'}


@pytest.mark.parametrize('text, hosts', [
    ('', []), ('a', ['a']), ('a,b2', ['a', 'b2']), ('n[1-3]', ['n1', 'n2', 'n3']),
    ('a[08-10,3]x,b', ['a08x', 'a09x', 'a10x', 'a3x', 'b']),
    ('r[1-2]n[1,3]', ['r1n1', 'r1n3', 'r2n1', 'r2n3']),
])
def test_slurms_lists_of_nodes(text, hosts):
    assert expand_hosts(text) == hosts


def test_slurms_tasks_of_the_nodes():
    assert expand_counts('4(x2),3,1(x3)') == [4, 4, 3, 1, 1, 1]
    assert expand_counts('') == []


@pytest.mark.parametrize('launcher, environ, expected', [
    ('none', {'WORLD_SIZE': '4'}, Launch('none')),
    ('pytorch', {'WORLD_SIZE': '16', 'RANK': '11', 'LOCAL_RANK': '3', 'LOCAL_WORLD_SIZE': '8',
                 'MASTER_ADDR': 'node01', 'MASTER_PORT': '1234'},
     Launch('pytorch', ('node 0', 'node 1'), (8, 8), 'node01', 1234, 11, 3)),
    ('pytorch', {'WORLD_SIZE': '2', 'RANK': '1'},
     Launch('pytorch', ('node 0',), (2,), '127.0.0.1', 29500, 1, 1)),
    ('slurm', STEP, Launch('slurm', ('gpu07', 'gpu11'), (4, 3), 'gpu07', 16711, 5, 1)),
    ('slurm', {**STEP, 'MASTER_ADDR': 'ib07', 'MASTER_PORT': '99'},
     Launch('slurm', ('gpu07', 'gpu11'), (4, 3), 'ib07', 99, 5, 1)),
    ('slurm', {'SLURM_NTASKS': '5', 'SLURM_JOB_NODELIST': 'a,b', 'SLURM_PROCID': '0'},
     Launch('slurm', ('a', 'b'), (3, 2), 'a', 29500)),      # a batch script, which has no step
    ('mpi', {'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '2', 'MASTER_ADDR': 'h',
             'OMPI_COMM_WORLD_LOCAL_SIZE': '2', 'OMPI_COMM_WORLD_LOCAL_RANK': '0'},
     Launch('mpi', ('node 0', 'node 1'), (2, 2), 'h', 29500, 2, 0)),
])
def test_each_launcher_says_it_in_its_own_words(launcher, environ, expected):
    assert read_launch(launcher, environ=environ) == expected


@pytest.mark.parametrize('launcher, environ, layout, message', [
    ('pytorch', {}, None, 'WORLD_SIZE is not set: torchrun sets it'),
    *(('pytorch', {'WORLD_SIZE': '2', 'RANK': '0', name: '0'}, None,
       f"{name}='0' in the environment must be a whole number from 1 on")
      for name in ('WORLD_SIZE', 'LOCAL_WORLD_SIZE')),
    ('pytorch', {'WORLD_SIZE': 'two', 'RANK': '0'}, None, "WORLD_SIZE='two' in the environment"),
    ('slurm', {}, None, 'SLURM_NTASKS is not set: srun'),
    ('mpi', {'OMPI_COMM_WORLD_SIZE': '4', 'OMPI_COMM_WORLD_RANK': '2',
             'OMPI_COMM_WORLD_LOCAL_SIZE': '2'}, None, 'mpirun -x MASTER_ADDR=HOST'),
    ('slurm', {}, '2', "--processes '2': NODESxPROCESSES"),
    ('slurm', {}, '0x8', "--processes '0x8': NODESxPROCESSES"),
])
def test_what_an_environment_does_not_say(launcher, environ, layout, message):
    with pytest.raises(UsageError) as error:
        read_launch(launcher, layout, environ)
    assert message in str(error.value)


def test_a_rank_is_named_with_its_node():
    launch = read_launch('slurm', environ=STEP)
    assert [launch.place(rank) for rank in (3, 4, 9)] == ['rank 3 (gpu07)', 'rank 4 (gpu11)',
                                                          'rank 9']


@pytest.fixture
def no_launcher(monkeypatch, tmp_path):
    for name in (*STEP, 'WORLD_SIZE', 'RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures('no_launcher')
def test_a_dry_run_tells_what_a_run_would_be(capsys, tmp_path, monkeypatch):
    """Two nodes of a Slurm job; the recipe's 4096 images in their shares."""
    for name, value in {**STEP, 'SLURM_STEP_NUM_TASKS': '8', 'SLURM_STEP_TASKS_PER_NODE': '4(x2)',
                        'SLURM_PROCID': '0'}.items():
        monkeypatch.setenv(name, value)
    command = ['train', 'detcon_r50', '--launcher', 'slurm', '--dry-run']
    assert main(command) == 0
    assert [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        'launcher slurm, 8 processes on 2 nodes', 'rank 0 is met at gpu07:16711',
        'ranks 0-3 gpu07', 'ranks 4-7 gpu11', 'batch 512 a process × 8 processes = 4096 an update',
        'learning rate 3.2', 'negatives 131070 an anchor', 'batch norm over 4096 images',
        'nothing was started']
    monkeypatch.setenv('SLURM_PROCID', '6')
    assert main(command) == 0
    assert capsys.readouterr().out == '', 'the first process says it for all'
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures('no_launcher')
@pytest.mark.parametrize('arguments, code, message', [
    (['--launcher', 'pytorch', '--dry-run', '--processes', '2x8', '--cfg-options',
      'train_dataloader.batch_size=32'], 0, '32 a process × 16 processes = 512 an update'),
    (['--dry-run'], 0, '64 a process × 1 process = 64 an update'),
    (['--launcher', 'slurm', '--dry-run', '--processes', '3x5'], 2, 'cannot be shared by 15'),
    (['--launcher', 'slurm', '--dry-run'], 2, '--dry-run --processes NODESxPROCESSES'),
    (['--launcher', 'slurm'], 2, 'needs srun'),
    (['--dry-run', '--processes', '2x8'], 2, 'needs a launcher'),
    (['--launcher', 'slurm', '--processes', '2x8'], 2, 'goes with --dry-run'),
    (['--dry-run', '--find-batch'], 2, 'one at a time'),
])
def test_the_commands_words(arguments, code, message, capsys, tmp_path):
    assert main(['train', 'small/simclr_r18', *arguments]) == code
    out = capsys.readouterr()
    assert message in (out.err if code else out.out)
    assert not list(tmp_path.iterdir())


def launches(processes, port):
    return [Launch('slurm', ('a', 'b'), (1, processes - 1), '127.0.0.1', port, rank, 0)
            for rank in range(processes)]


def test_who_does_not_come_is_named(monkeypatch):
    """Two of four, one of them the keeper of the store."""
    monkeypatch.delenv('TORCHELASTIC_USE_AGENT_STORE', raising=False)
    told = []

    def come(launch):
        try:
            meet(launch, timedelta(seconds=1))
        except PeersLost as error:
            told.append(str(error))
    environ = dict(meeting.os.environ)
    monkeypatch.setattr(meeting.os, 'environ', environ)
    threads = [threading.Thread(target=come, args=(launch,))
               for launch in launches(4, free_port())[::3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 2 and not distributed.is_initialized()
    for text in told:
        assert text.startswith('rank 1 (b), rank 2 (b) did not come within 0.0166667 minutes')


def test_a_first_process_that_does_not_answer_is_named():
    last = launches(3, free_port())[2]
    with pytest.raises(PeersLost, match=r'rank 0 \(a\) did not answer at 127\.0\.0\.1:'):
        meet(last, timedelta(seconds=0.3))


def test_a_port_that_is_taken():
    port = free_port()
    other = TCPStore('127.0.0.1', port, is_master=True, wait_for_workers=False)
    with pytest.raises(RunFailed, match=f'port {port} cannot be listened at .*set MASTER_PORT'):
        meet(launches(2, port)[0], timedelta(seconds=1))
    del other


def test_who_is_lost_while_training_is_named(monkeypatch):
    monkeypatch.setattr(meeting, 'ROLL_CALL', 0.3)
    monkeypatch.setattr(meeting, 'SLICE', 0.2)
    store = TCPStore('127.0.0.1', free_port(), is_master=True, wait_for_workers=False)
    launch = launches(3, store.port)[0]
    store.set('alive/1', '')
    broken = RuntimeError('[gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:4')
    with pytest.raises(PeersLost, match=r'^rank 2 \(b\) cannot be reached any more'), \
            missing_named(launch, store):
        raise broken
    store.set('alive/2', '')
    assert roll_call(store, launch, 'alive', 0.1) == []
    with pytest.raises(PeersLost, match='though all of them are there'), \
            missing_named(launch, store):
        raise broken
    with pytest.raises(RuntimeError, match='another fault'), missing_named(launch, store):
        raise RuntimeError('another fault')
    with pytest.raises(RuntimeError, match='Connection closed'), missing_named(launch, None):
        raise broken
