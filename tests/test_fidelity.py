"""docs/fidelity.md says what the configs and the code do."""
from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from densessl.config import find_config

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location('make_fidelity', ROOT / 'docs/make_fidelity.py')
fidelity = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fidelity)
RELEASES = fidelity.read_release()


def test_the_page_is_what_its_script_makes():
    assert (ROOT / 'docs/fidelity.md').read_text() == fidelity.page(), 'run: make fidelity'


@pytest.mark.parametrize('name', RELEASES)
def test_every_constant_that_is_listed_is_followed(name):
    """A constant that stops following its release belongs under `differs`, with its reason."""
    constants = RELEASES[name]['constants']
    assert constants
    for what, key, released, _ in constants:
        assert fidelity.in_config(name, key) == released, (what, key)


@pytest.mark.parametrize('name', RELEASES)
def test_what_stands_in_code_is_tested(name):
    for _, _, test in RELEASES[name]['code']:
        path, function = test.split('::')
        names = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text()))
                 if isinstance(node, ast.FunctionDef)}
        assert function in names, test


@pytest.mark.parametrize('name', RELEASES)
def test_the_config_says_what_differs(name):
    docstring = ast.get_docstring(ast.parse(find_config(name).read_text()))
    block = docstring.split('Differs from the release')[1].lower()
    for what, *_ in RELEASES[name]['differs']:
        words = [word for word in re.findall('[a-z-]{4,}', what.lower()) if word not in IDLE]
        assert any(word.rstrip('s') in block for word in words), (what, words)


IDLE = {'more', 'where', 'that', 'head', 'release', 'initial'}


def test_every_published_config_is_listed():
    published = {path.stem for path in (ROOT / 'configs').glob('*_r50.py')}
    # no release; PyTorch's example; this project's own
    others = {'detcon_s_r50', 'supervised_r50', 'distill_r50'}
    assert {name for name in published if 'coco' not in name} - others == set(RELEASES)
