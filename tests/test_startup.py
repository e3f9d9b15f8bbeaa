"""What is light stays light: nothing heavy is imported before it is needed."""
from __future__ import annotations

import subprocess
import sys

import pytest

from densessl.cli import COMMANDS

HEAVY = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'cv2', 'numpy',
         'numba', 'matplotlib', 'rich', 'PIL', 'skimage', 'scipy')


@pytest.mark.parametrize('code', [
    'import densessl',
    'from densessl import hookimpl',
    'from densessl.cli import main; assert main(["--version"]) == 0',
    'from densessl.cli import main\ntry: main(["--help"])\nexcept SystemExit: pass',
    f'from densessl.cli import main\nfor name in {list(COMMANDS)!r}:\n'
    f'    try: main([name, "--help"])\n    except SystemExit: pass',
])
def test_nothing_heavy_is_imported(code):
    found = subprocess.run([sys.executable, '-c', f'{code}\nimport sys\n'
                            f'print("HEAVY", sorted(set(sys.modules) & set({HEAVY!r})))'],
                           capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == 'HEAVY []', found


def test_the_check_can_fail():
    code = f'import densessl.method, sys; print(bool(set(sys.modules) & set({HEAVY!r})))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          check=True).stdout == 'True\n'
