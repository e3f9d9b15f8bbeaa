"""SIGUSR1: the run saves, stops and has its Slurm job queued again. And runs over several nodes,
which are two launches on this machine."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gloo import free_port
from runs import TINY

from densessl.engine.checkpoint_file import newest_checkpoint, read_checkpoint
from densessl.engine.requeue import ToBeRequeued, ended, requeued_at_any_time
from densessl.engine.stop import StopHook
from densessl.errors import Interrupted

pytestmark = [pytest.mark.usefixtures('surroundings'),
              pytest.mark.skipif(not hasattr(signal, 'SIGUSR1'), reason='there is no SIGUSR1')]


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A program of that name that notes how it was called; ``fail`` makes it refuse."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    program = folder / 'scontrol'
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n'
                       f'if [ -e {tmp_path}/fail ]; then echo "Job is not permitted" >&2; exit 1; '
                       f'fi\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(folder), prepend=os.pathsep)
    return tmp_path


def called(folder):
    path = folder / 'called'
    return path.read_text().splitlines() if path.exists() else []


def test_the_signal_stops_to_be_requeued(monkeypatch):
    """Whether it comes while training, where a checkpoint is saved first, or before."""
    hook = StopHook()
    monkeypatch.setattr(hook, 'save', lambda runner, done: f'stopped after iteration {done}')
    with pytest.raises(ToBeRequeued, match='before the training'), requeued_at_any_time():
        hook.before_train(None)
        try:
            for _ in range(2):      # the second is no impatience
                os.kill(os.getpid(), signal.SIGUSR1)
                hook.since -= 60
            assert hook.asked == signal.SIGUSR1
            with pytest.raises(ToBeRequeued, match='after iteration 3'):
                hook.stop(None, 3)
        finally:
            hook.signals.give_back()
        os.kill(os.getpid(), signal.SIGUSR1)
    hook.asked = signal.SIGTERM
    with pytest.raises(Interrupted) as stop:
        hook.stop(None, 3)
    assert type(stop.value) is Interrupted


def test_the_first_process_has_the_job_queued_again(scontrol, capsys, monkeypatch):
    monkeypatch.setenv('SLURM_JOB_ID', '4711')
    stop = ToBeRequeued('stopped after iteration 3')
    assert ended(stop, 'train', 1) == 75 and called(scontrol) == []
    assert ended(Interrupted('stopped'), 'train', 0) == 1 and called(scontrol) == []
    assert ended(stop, 'train', 0) == 75 and called(scontrol) == ['requeue 4711']
    (scontrol / 'fail').touch()
    assert ended(stop, 'train', 0) == 75
    monkeypatch.setenv('PATH', '')
    assert ended(stop, 'train', 0) == 75
    monkeypatch.delenv('SLURM_JOB_ID')
    assert ended(stop, 'train', 0) == 75
    told = capsys.readouterr().err.splitlines()
    assert told[:3] == ['densessl train: stopped after iteration 3', 'densessl train: stopped',
                        'densessl train: stopped after iteration 3; job 4711 is queued again']
    assert told[3].endswith('; job 4711 could not be queued again: Job is not permitted')
    assert 'could not be queued again: ' in told[4] and 'scontrol' in told[4]
    assert told[5] == told[0]


def start(scenes, program, *more, environ=None):
    """A process of a run, in a session of its own."""
    command = [sys.executable, '-m', *program, 'train', 'small/detcon_r18', '--work-dir', 'run',
               '--data', str(scenes), '--resume', *more, '--cfg-options', *TINY,
               'checkpoint.every_epochs=0.34', 'process_timeout=1']
    plain = {name: value for name, value in os.environ.items() if not name.startswith('SLURM_')}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                            start_new_session=True,
                            env={**plain, 'OMP_NUM_THREADS': '1', **(environ or {})})


def wait_for(processes, path):
    deadline = time.time() + 200
    while time.time() < deadline and all(process.poll() is None for process in processes):
        if Path(path).exists():
            return
        time.sleep(0.05)
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError([process.communicate()[1] for process in processes])


def finish(processes):
    """Exit codes and what was said on stderr."""
    said = [process.communicate(timeout=200)[1] for process in processes]
    return [process.returncode for process in processes], said


def slurm(rank, port):
    return {'SLURM_JOB_ID': '4711', 'SLURM_STEP_NUM_TASKS': '2', 'SLURM_PROCID': str(rank),
            'SLURM_LOCALID': '0', 'SLURM_STEP_NODELIST': 'node[1-2]',
            'SLURM_STEP_TASKS_PER_NODE': '1(x2)', 'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(port)}


def nodes(scenes, port, *more):
    """Two launches of torchrun, as on two nodes."""
    return [start(scenes, ['torch.distributed.run', '--nnodes', '2', '--node-rank', str(rank),
                           '--nproc-per-node', '1', '--master-addr', '127.0.0.1',
                           '--master-port', str(port), '-m', 'densessl.cli'],
                  '--launcher', 'pytorch', *more) for rank in range(2)]


@pytest.mark.slow
def test_a_slurm_step_is_stopped_queued_again_and_goes_on(scenes, scontrol):
    """Two nodes of one process each, of which one gets the signal; both are started again by the
    same command, and end with the weights of a run on one node that nobody stopped."""
    port = free_port()
    processes = [start(scenes, ['densessl.cli'], '--launcher', 'slurm', '--epochs', '8',
                       environ=slurm(rank, port)) for rank in range(2)]
    wait_for(processes, 'run/iter_2.pth')
    processes[1].send_signal(signal.SIGUSR1)
    codes, said = finish(processes)
    assert codes == [75, 75], said
    assert said[0].rstrip().endswith('; job 4711 is queued again') and 'queued' not in said[1]
    assert called(scontrol) == ['requeue 4711']
    done = read_checkpoint(newest_checkpoint('run'))['meta']['iter']
    assert 2 <= done < 12
    port = free_port()
    codes, said = finish([start(scenes, ['densessl.cli'], '--launcher', 'slurm', '--epochs', '8',
                                environ=slurm(rank, port)) for rank in range(2)])
    assert codes == [0, 0], said
    Path('run').rename('stopped')
    codes, said = finish([start(scenes, ['torch.distributed.run', '--standalone',
                                         '--nproc-per-node', '2', '-m', 'densessl.cli'],
                                '--launcher', 'pytorch', '--epochs', '8')])
    assert codes == [0], said
    one, two = (read_checkpoint(f'{folder}/iter_12.pth')['state_dict']
                for folder in ('stopped', 'run'))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='finds a child by /proc')
def test_two_nodes_of_torchrun_and_one_that_dies(scenes):
    """The other names the rank that is gone, at once."""
    processes = nodes(scenes, free_port(), '--epochs', '2000')
    wait_for(processes, 'run/iter_2.pth')
    agent = processes[1].pid
    worker, = Path(f'/proc/{agent}/task/{agent}/children').read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    codes, said = finish(processes)
    assert codes == [1, 1], said
    told = [line for line in said[0].splitlines() if line.startswith('densessl train: ')]
    assert len(told) == 1 and told[0].startswith(
        'densessl train: rank 1 (node 1) cannot be reached any more'), said
    assert 'the last good checkpoint is run/iter_' in told[0]


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run_in_time(scenes, scontrol):
    port = free_port()
    processes = [start(scenes, ['densessl.cli'], '--launcher', 'slurm', '--epochs', '2000',
                       environ=slurm(rank, port)) for rank in range(2)]
    wait_for(processes, 'run/iter_2.pth')
    processes[1].send_signal(signal.SIGSTOP)
    codes, said = finish(processes[:1])
    os.killpg(processes[1].pid, signal.SIGKILL)
    processes[1].communicate()
    assert codes == [1] and 'densessl train: rank 1 (node2) cannot be reached' in said[0], said
