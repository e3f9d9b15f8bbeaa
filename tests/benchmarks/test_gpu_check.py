"""``gpu_check`` without a GPU: what it says, how it goes on, and all of its lines in small."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'gpu_check.py'
pytestmark = pytest.mark.skipif(not TOOL.is_file(), reason='runs in a checkout only')


@pytest.fixture(autouse=True)
def beside_the_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))


def run(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True,
                          text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_one_line(capsys, tmp_path):
    from on_gpu.check import main
    assert main(['--out', str(tmp_path / 'out')]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and 'no CUDA device' in said.err and not said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('arguments, message', [
    (['--device', 'cpu'], 'add --small'),
    (['--device', 'cpu', '--small', '--parts', 'fast,slow'], '--parts slow: choices are correct'),
    (['--device', 'cpu', '--small', '--data', 'nowhere'], '--data nowhere: there is no such'),
    (['--device', 'cpu', '--small', '--minutes', '0'], '--minutes 0: must be above 0'),
])
def test_wrong_arguments_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    from on_gpu.check import main
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Measurements that succeed, fail, break the GPU or the process; the measuring process is a
    fork of this one. Returns a function that runs the command, and how often each ran."""
    from on_gpu import check
    from on_gpu.record import Row
    runs = tmp_path / 'runs'

    def counted(name, then):
        def measure(setting):
            with runs.open('a') as file:
                file.write(f'{name}\n')
            return then()
        return check.Measurement(name, measure, 1)

    def broken():
        raise RuntimeError('CUDA error: an illegal memory access')

    def wrong():
        raise ValueError('no such | thing')
    made = [counted('correct: good', lambda: [Row('one', '1', '≥ 1', True)]),
            counted('correct: wrong', wrong), counted('exact: broken', broken),
            counted('fast: dies', lambda: os.kill(os.getpid(), signal.SIGKILL)),
            counted('fast: last', lambda: [Row('two', '2', '≥ 3', False)])]
    monkeypatch.setattr(check, 'measurements', lambda minutes, small: made)
    monkeypatch.setattr(check, 'watch', forked(check))
    monkeypatch.setattr(check.signal, 'signal', lambda *_: None)
    return lambda *more: check.main(['--device', 'cpu', '--small', '--out', str(tmp_path / 'out'),
                                     *more]), runs


def forked(check):
    def watch(command, out, limits):
        child = os.fork()
        if child == 0:
            os._exit(check.main(command[2:]))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return f'was ended by signal {-status}' if status else ''
    return watch


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
def test_what_fails_is_a_row_and_the_others_go_on(fake, tmp_path, capfd):
    main, runs = fake
    assert main() == 1
    assert runs.read_text().split('\n')[:5] == ['correct: good', 'correct: wrong', 'exact: broken',
                                                'fast: dies', 'fast: last']
    found = json.loads((tmp_path / 'out' / 'gpu_check.json').read_text())['measurements']
    assert found['correct: wrong']['error'] == 'ValueError: no such | thing'
    assert found['fast: dies']['error'] == 'the process was ended by signal 9'
    table = (tmp_path / 'out' / 'gpu_check.md').read_text()
    assert '| one | 1 | ≥ 1 | pass |' in table and '| two | 2 | ≥ 3 | **miss** |' in table
    assert 'ValueError: no such \\| thing | is measured | **failed** |' in table
    assert '2 measured, 3 failed, 1 with a goal that was missed' in capfd.readouterr().out
    runs.unlink()                   # started again, what was measured is not measured again
    assert main() == 1
    assert runs.read_text().split() == ['correct:', 'wrong', 'exact:', 'broken', 'fast:', 'dies']


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
def test_nothing_begins_that_the_budget_does_not_hold(fake, tmp_path, capfd):
    main, runs = fake
    assert main('--parts', 'fast', '--budget', '0.001') == 0
    assert not runs.exists()
    assert 'left, for the same command again: fast: dies, fast: last' in capfd.readouterr().out
    assert main('--parts', 'correct', '--budget', '5') == 1
    assert runs.read_text().splitlines() == ['correct: good', 'correct: wrong']


@pytest.mark.parametrize('program, limit, message', [
    ('import signal; signal.pause()', 1.0, 'hung: it was ended after 1 s'),
    ('raise SystemExit(7)', 900.0, 'ended with exit code 7'), ('', 900.0, '')])
def test_a_measuring_process_that_hangs_or_ends_is_noticed(program, limit, message, tmp_path):
    from on_gpu import check
    (tmp_path / check.RUNNING).write_text(json.dumps(
        {'tried': ['it'], 'running': 'it', 'since': time.time() - 100, 'poisoned': False}))
    assert check.watch([sys.executable, '-c', program], tmp_path, {'it': limit}) == message


def test_the_table_takes_its_place_in_a_page(tmp_path, capsys):
    from on_gpu.check import main
    from on_gpu.record import Record, Row
    page = tmp_path / 'page.md'
    page.write_text((ROOT / 'docs' / 'gpu.md').read_text())
    assert main(['--out', str(tmp_path), '--into', str(page)]) == 2
    assert 'holds no measurement' in capsys.readouterr().err
    record = Record(tmp_path)
    record.note_facts({'card': '1 × X', 'driver': '1.2', 'processor': 'P', 'software': 'torch 2'})
    record.keep('fast: it', [Row('rate', '5 images/s')], 1.0, 'X')
    for _ in range(2):              # again, in its own place
        assert main(['--out', str(tmp_path), '--into', str(page)]) == 0
    text = page.read_text()
    assert text.count('| rate | 5 images/s |  |  |') == 1 and 'driver 1.2' in text
    assert text.startswith('# On a GPU') and text.count('<!-- end -->') == 1
    page.write_text('nothing')
    assert main(['--out', str(tmp_path), '--into', str(page)]) == 2
    assert page.read_text() == 'nothing'


@pytest.mark.timeout(900)       # on a machine that does much else
@pytest.mark.parametrize('parts', [
    'fast', pytest.param('correct,exact,learns', marks=pytest.mark.slow)])
def test_every_line_runs_on_the_cpu(parts, tmp_path):
    done = run('--device', 'cpu', '--small', '--parts', parts, '--out', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / 'gpu_check.json').read_text())
    assert not [name for name, one in record['measurements'].items() if one.get('error')]
    assert {name.split(':')[0] for name in record['measurements']} == set(parts.split(','))
    assert 'left' not in done.stdout
