"""Memory that is freed stays with a process that computes on the CPU."""
from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip('resource')
FAULTS = """
import resource, sys, torch
from densessl.devices.heap import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == 'keep' else None
def twenty_blocks():
    for _ in range(20):
        torch.zeros(2 ** 24)        # 64 MiB
twenty_blocks()                     # the first ones still find their places
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
twenty_blocks()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word, **environment):
    """What the call returned, and the pages that the system had to supply."""
    kept, number = subprocess.run([sys.executable, '-c', FAULTS, word], text=True, check=True,
                                  capture_output=True, env=environment).stdout.split()
    return kept, int(number)


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc')
def test_pages_are_not_supplied_anew():
    kept, number = faults('keep')
    if kept == 'False':
        pytest.skip('another C library, or a GPU')
    assert number < faults('leave')[1] / 20


def test_what_the_user_has_set_stays():
    assert faults('keep', MALLOC_TRIM_THRESHOLD_='1000000')[0] == 'False'
