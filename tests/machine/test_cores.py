"""How many cores a process may use, and that its threads let others have them."""
import os
import subprocess
import sys

import pytest

from densessl.machine import cores as module
from densessl.machine.cores import BY_QUOTA, cores, share_cores, with_threads


@pytest.mark.parametrize(('text', 'expected'), [
    ('150000 100000\n', 2), ('50000 100000', 1), ('max 100000', 64), ('6400000 100000', 64),
    ('9900000 100000', 64), ('nonsense', 64), ('1 0', 64), ('', 64)])
def test_a_containers_share_of_cpu_time_bounds_the_cores(text, expected, tmp_path, monkeypatch):
    (tmp_path / 'cpu.max').write_text(text)
    monkeypatch.setattr(module, 'QUOTA', tmp_path / 'cpu.max')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(64)), raising=False)
    assert cores() == expected


def test_without_a_container_the_allowed_cores_count(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'QUOTA', tmp_path / 'none')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 3, 5}, raising=False)
    assert cores() == 3


@pytest.mark.parametrize(('given', 'quota', 'expected'), [
    ({}, 'max 100000', {'GOMP_SPINCOUNT': '1000'}),
    ({}, '200000 100000', {'GOMP_SPINCOUNT': '1000', 'OMP_NUM_THREADS': '2',
                              BY_QUOTA: '1'}),
    ({'OMP_NUM_THREADS': '7'}, '200000 100000', {'GOMP_SPINCOUNT': '1000', 'OMP_NUM_THREADS': '7'}),
    ({'GOMP_SPINCOUNT': '5'}, 'max 100000', {'GOMP_SPINCOUNT': '5'}),
    ({'OMP_WAIT_POLICY': 'active'}, 'max 100000', {'OMP_WAIT_POLICY': 'active'}),
])
def test_what_the_user_has_set_stays(given, quota, expected, tmp_path, monkeypatch):
    (tmp_path / 'cpu.max').write_text(quota)
    monkeypatch.setattr(module, 'QUOTA', tmp_path / 'cpu.max')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(64)), raising=False)
    environment = dict(given)
    share_cores(environment)
    assert environment == expected


@pytest.mark.skipif(sys.platform != 'linux', reason='GNU OpenMP is that of Linux')
def test_the_command_has_it_said_before_torch_is_loaded():
    """GNU OpenMP itself says what it goes by."""
    code = 'from densessl.cli import main; main(["--version"]); import torch'
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(('OMP_', 'GOMP_'))}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                          env={**environment, 'OMP_DISPLAY_ENV': 'VERBOSE'})
    said = [line.split('=')[1] for line in done.stderr.splitlines() if 'GOMP_SPINCOUNT' in line]
    if not said:
        pytest.skip('this torch has another OpenMP')
    assert all(int(value.strip(" '")) == module.ROUNDS for value in said), done.stderr


@pytest.mark.parametrize(('environment', 'threads'), [
    ({}, '1'), ({'OMP_NUM_THREADS': '7'}, '7'),                     # the user's word stays
    ({'OMP_NUM_THREADS': '2', BY_QUOTA: '1'}, '1')])                # the container's is divided
def test_a_share_of_the_cores_is_no_more_than_that(environment, threads):
    assert with_threads(environment, 1)['OMP_NUM_THREADS'] == threads
