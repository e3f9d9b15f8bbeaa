"""The torture script in its small form; at full size it is run by hand (docs/training.md)."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, 'fork') or not (ROOT / 'tools').is_dir(),
                                reason='forks, and runs in a checkout only')


@pytest.mark.slow               # what it does by chance, test_stop and test_run do one by one
@pytest.mark.timeout(900)       # on a machine that does much else; 17 seconds of one core
def test_tortured_runs_end_as_if_undisturbed(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'torture.py'), '--small', '--out',
         str(tmp_path / 'table.md')], capture_output=True, text=True, timeout=850,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'TMPDIR': str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (tmp_path / 'table.md').read_text().splitlines()
    for name, words in (('simclr', 'the same bits'), ('finetune', 'complete')):
        row, = (row for row in rows if row.startswith(f'| {name} |'))
        good, runs = map(int, re.search(rf'(\d+) of (\d+) runs {words}', row).groups())
        assert good == runs >= 6
        assert sum(map(int, row.split('|')[2:4])) == 2
    assert not list(tmp_path.glob('densessl-torture-*'))
