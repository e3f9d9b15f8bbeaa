"""Commands in processes of their own: slots, exit codes, and that nothing is left behind."""
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from densessl.benchmark.processes import Job, last_words, run_jobs, slots
from densessl.errors import UsageError

ONE = [SimpleNamespace(environment=lambda: dict(os.environ))]


def test_exit_codes_and_last_words_come_back(tmp_path):
    jobs = [Job(['--version'], tmp_path / 'logs' / 'good.log', 'good'),
            Job(['plugins', 'new', 'No-Name'], tmp_path / 'logs' / 'bad.log', 'bad')]
    seen = []
    run_jobs(jobs, ONE * 2, lambda job, code, seconds: seen.append((job.about, code, seconds > 0)))
    assert sorted(seen) == [('bad', 2, True), ('good', 0, True)]
    assert "'No-Name' is not a plugin name" in last_words(jobs[1].log)
    (tmp_path / 'empty').write_text('\n')
    assert last_words(tmp_path / 'empty') == 'it said nothing'


def test_one_slot_runs_one_at_a_time_in_order(tmp_path):
    order = []
    run_jobs([Job(['--version'], tmp_path / f'{i}.log', i) for i in range(2)], ONE,
             lambda job, code, seconds: order.append((job.about, code)))
    assert order == [(0, 0), (1, 0)]


def test_a_job_says_what_it_and_its_children_took(tmp_path):
    """Also those that run at the same time, and a script in the place of a command."""
    script = tmp_path / 'spin.py'
    script.write_text('import subprocess, sys, time\n'
                      'while time.process_time() < float(sys.argv[1]): pass\n'
                      'if len(sys.argv) == 2:\n'
                      '    subprocess.run([sys.executable, __file__, sys.argv[1], "child"])\n')
    jobs = [Job([str(script), wanted], tmp_path / f'{wanted}.log', float(wanted),
                {'DENSESSL_ANYTHING': '1'}) for wanted in ('0.2', '0.6')]
    codes = []
    run_jobs(jobs, ONE * 2, lambda job, code, seconds: codes.append(code))
    assert codes == [0, 0]
    for job in jobs:
        assert 2 * job.about <= job.cpu_seconds < 2 * job.about + 0.3


def test_slots_are_devices_or_shares_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    assert [slot.device for slot in slots()] == ['3', '5']
    assert [slot.device for slot in slots(3)] == ['3', '5', '3']
    assert slots()[1].environment()['CUDA_VISIBLE_DEVICES'] == '5'
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert [slot.device for slot in slots()] == ['0', '1']
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr('densessl.benchmark.processes.cores', lambda: 8)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert [(slot.device, slot.threads) for slot in slots()] == [(None, None)]
    assert slots(4)[0].environment()['OMP_NUM_THREADS'] == '2'
    with pytest.raises(UsageError, match='--jobs 0: at least 1'):
        slots(0)


@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(tmp_path, how):
    """The child waits for ever, as a training would; however its parent ends, it ends."""
    script = tmp_path / 'parent.py'
    script.write_text(
        'import sys, subprocess\n'
        'from pathlib import Path\n'
        'from densessl.benchmark import processes\n'
        'code = "import os, time\\n" \\\n'
        '       "from densessl.__main__ import end_with_parent\\n" \\\n'
        '       "end_with_parent()\\n" \\\n'
        '       "print(os.getpid(), flush=True)\\n" \\\n'
        '       "time.sleep(600)"\n'
        'def start(job, slot):\n'
        '    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,\n'
        '                            stdout=open(job.log, "w"), start_new_session=True)\n'
        'processes._start = start\n'
        f'job = processes.Job([], Path({str(tmp_path / "log")!r}))\n'
        'processes.run_jobs([job], [None], print)\n')
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    child = int(_wait_for(lambda: (tmp_path / 'log').exists()
                          and (tmp_path / 'log').read_text().strip()))
    assert _lives(child)
    parent.send_signal(how)
    parent.wait(20)
    assert _wait_for(lambda: not _lives(child))


def _wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError('it did not happen')


def _lives(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False
