"""A run that is stopped from outside: by a signal it saves a checkpoint and ends; killed outright
it leaves its last one, and resumes from it exactly."""
from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import TINY

from densessl.cli import main
from densessl.engine.checkpoint_file import newest_checkpoint, read_checkpoint
from densessl.engine.stop import StopHook
from densessl.errors import Interrupted
from densessl.machine.signals import given_back_after_failure

pytestmark = pytest.mark.usefixtures('surroundings')
TRAIN = ['densessl.cli', 'train', 'small/detcon_r18', '--work-dir', 'run']
TORCHRUN = ['torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m']


def start(launcher, scenes, *more, options=()):
    """A run in a session, and so a process group, of its own."""
    command = [sys.executable, '-m', *launcher, *TRAIN, '--data', str(scenes), *more,
               '--cfg-options', *TINY, *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            start_new_session=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def wait_for(process, pattern):
    """Wait until the run has written a file that is not empty."""
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        if any(path.stat().st_size for path in Path('run').glob(pattern)):
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f'no {pattern}: {process.communicate()[1]}')


@pytest.mark.parametrize('who, number', [('run', signal.SIGTERM), ('torchrun', signal.SIGINT)])
def test_a_signal_saves_and_stops(who, number, scenes):
    """A signal to the whole process group of a run, its loader's workers too, as schedulers and
    terminals send it; and one to torchrun, which passes it to the groups of both its processes:
    one line, exit code 1."""
    launcher, more = (TORCHRUN, ['--launcher', 'pytorch']) if who == 'torchrun' else ([], [])
    process = start(launcher, scenes, '--epochs', '2000', *more,
                    options=['train_dataloader.num_workers=1'])
    wait_for(process, '*/vis_data/scalars.json')
    if who == 'run':
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    told = [line for line in error.splitlines() if line.startswith('densessl train: stopped')]
    assert told and len(set(told)) == 1, error     # both processes after the same iteration
    assert 'add --resume to the command to go on' in told[0]
    assert 'exited unexpectedly' not in error and 'forcefully' not in error
    done = read_checkpoint(newest_checkpoint('run'))['meta']['iter']
    assert done >= 2 and f'after iteration {done};' in told[0]


def test_a_killed_run_resumes_to_the_same_bits(scenes):
    """kill -9 at any moment, then --resume, with another number of loader workers: the weights are
    those of a run that nobody killed."""
    options = ['checkpoint.every_epochs=0.34', 'checkpoint.keep=9']
    arguments = [*TRAIN[1:], '--data', str(scenes), '--epochs', '3', '--cfg-options', *TINY]
    process = start([], scenes, '--epochs', '3', options=[*options,
                                                          'train_dataloader.num_workers=2'])
    wait_for(process, 'iter_2.pth')
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    killed_at = read_checkpoint(newest_checkpoint('run'))['meta']['iter']
    assert 2 <= killed_at < 9, 'killed in the middle'
    assert main([*arguments[:3], 'run', *arguments[4:6], '--resume', *arguments[6:]]) == 0
    assert main([*arguments[:3], 'whole', *arguments[4:]]) == 0
    one, two = (read_checkpoint(f'{folder}/iter_9.pth') for folder in ('run', 'whole'))
    assert all(torch.equal(value, two['state_dict'][key])
               for key, value in one['state_dict'].items())
    assert json.dumps(one['meta']['identity']) == json.dumps(two['meta']['identity'])


needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no process is forked here')


@pytest.fixture
def stop_hook():
    hook = StopHook()
    hook.before_train(None)
    yield hook
    hook.signals.give_back()


@needs_fork
def test_a_forked_helper_is_ended_by_the_run_alone(stop_hook):
    """Signals to the whole group are none of its business: the run waits for what it computes. An
    evaluation's pool of processes ends them by SIGTERM, and waits until they are gone."""
    helper = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)
    try:
        helper.start()
        time.sleep(0.2)
        os.kill(helper.pid, signal.SIGINT)
        subprocess.run(['kill', str(helper.pid)], check=True)     # SIGTERM of another process
        helper.join(0.5)
        assert helper.is_alive()
        helper.terminate()
        helper.join(10)
        assert helper.exitcode == 0 and not stop_hook.asked
    finally:
        helper.kill()


@needs_fork
def test_a_program_that_is_started_has_the_usual_signals(stop_hook):
    program = 'import signal; print(signal.getsignal(signal.SIGINT).__name__, ' \
              'signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, ()))'
    for before in (None, os.getpid):        # without and with running Python in the fork
        done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                              check=True, preexec_fn=before)
        assert done.stdout == 'default_int_handler 0 set()\n'


@needs_fork
def test_a_helper_dies_by_a_sigterm_that_comes_before_it_runs(stop_hook):
    """A pool that is done at once ends helpers that have not begun."""
    for _ in range(30):
        helper = os.fork()
        if helper == 0:
            time.sleep(5)
            os._exit(0)
        os.kill(helper, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == -signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)        # the run itself hears of it, and nothing is blocked
    assert stop_hook.asked == signal.SIGTERM
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@needs_fork
def test_forks_are_watched_from_the_first_run_on_and_once():
    program = ('import os; told = []; os.register_at_fork = lambda **when: told.append(when)\n'
               'from densessl.machine.signals import ProcessSignals\n'
               'ours = lambda: sum("densessl" in call.__module__ for when in told '
               'for call in when.values())\n'
               'before = ours()\n'
               'for _ in range(2): ProcessSignals(print).take()\n'
               'print(before, ours())')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          check=True)
    assert done.stdout == '0 3\n'      # before, in the parent, in the child


def test_signals_mean_what_they_did_after_a_failure_but_not_after_a_stop():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for failure, back in ((ValueError, True), (Interrupted, False)):
        hook = StopHook()
        with pytest.raises(failure), given_back_after_failure(Interrupted):
            hook.before_train(None)
            raise failure
        now = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        assert (now == before) == back
        hook.signals.give_back()
        hook.signals.give_back()    # once is enough, twice is harmless
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
