"""The shape of the house: what the core may know, and that every plugin and hook is declared,
tested and documented."""
from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

from densessl import hookspecs
from densessl.cli import COMMANDS
from densessl.plugins import HOOKS, load_plugins, name_of

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / 'densessl').rglob('*.py'))
PLUGINS = sorted(p for p in (ROOT / 'plugins').iterdir() if (p / '__init__.py').is_file())
pytestmark = pytest.mark.skipif(not (ROOT / 'plugins').is_dir(), reason='runs in a checkout only')


def forbidden_names() -> set[str]:
    """Names of plugins, of what they provide, and of the libraries behind the targets."""
    names = {plugin.name for plugin in load_plugins()}
    for plugin in load_plugins():
        for hook, things in plugin.provides.items():
            if hook != 'config_folders':
                names |= {name_of(thing) for thing in things}
                names |= {thing.__name__ for thing in things}
    return {name.lower() for name in names | {'mmcv', 'mmdet', 'mmseg', 'mmsegmentation'}
            if name not in ('masks',)}   # the plugin of mask generators; a word of the core too


def words_of(path: Path) -> list[tuple[int, str]]:
    """Identifiers, imported modules and non-docstring strings of a file, with their lines."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                  and node.body and isinstance(node.body[0], ast.Expr)}
    words = []
    for node in ast.walk(tree):
        line = getattr(node, 'lineno', 0)
        if isinstance(node, ast.Name):
            words.append((line, node.id))
        elif isinstance(node, ast.Attribute):
            words.append((line, node.attr))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            words.append((line, node.name))
        elif isinstance(node, ast.arg):
            words.append((line, node.arg))
        elif isinstance(node, ast.ImportFrom):
            words.append((line, node.module or ''))
        elif isinstance(node, ast.alias):
            words.append((line, node.name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) \
                and id(node) not in docstrings:
            words.append((line, node.value))
    return words


def offences(path: Path, forbidden: set[str]) -> list[str]:
    return [f'{path.name}:{line}: {word!r}' for line, word in words_of(path)
            if forbidden & set(re.split(r'[^a-z0-9]+', word.lower()))
            or forbidden & set(re.split(r'[^a-z0-9_]+', word.lower()))]


@pytest.mark.parametrize('path', CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_names_no_plugin(path):
    forbidden = forbidden_names()
    if 'mmcv_' in str(path):   # the bridge: the one exception
        forbidden -= {'mmcv', 'torchvision'}
    # a grid of pixels, and COCO's file format, are not the generators of those names
    forbidden -= {'grid', 'coco'}
    if 'benchmark' in path.with_suffix('').parts:   # a baseline, not a method
        forbidden -= {'supervised'}
    if path.name == 'photometry_draw.py':   # a style of views, not the target of that name
        forbidden -= {'torchvision'}
    assert offences(path, forbidden) == []


def test_the_check_can_fail(tmp_path):
    assert forbidden_names() >= {'detcon', 'detconb', 'felzenszwalb', 'torchvision', 'mmseg'}
    path = tmp_path / 'imaginary.py'
    path.write_text('"""Of detcon a docstring may speak."""\nimport torchvision.models\n'
                    "x = 'use detcon here'\ndef felzenszwalb(mmseg_model): return DetConB\n"
                    'y = detconstruct\n')
    found = offences(path, forbidden_names())
    assert sorted(int(line.split(':')[1]) for line in found) == [2, 3, 4, 4, 4]


def test_every_plugin_folder_is_declared():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    declared = dict(line.split(' = ') for line in
                    setup['options.entry_points']['densessl'].strip().splitlines())
    packages = setup['options']['packages'].split()
    for folder in PLUGINS:
        assert declared.get(folder.name) == f'densessl_plugins.{folder.name}'
        assert f'densessl_plugins.{folder.name}' in packages
    assert len(declared) == len(PLUGINS)


def test_every_package_folder_is_in_the_wheel():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    packages = set(setup['options']['packages'].split())
    for folder, package in (('densessl', 'densessl'), ('plugins', 'densessl_plugins'),
                            ('configs', 'densessl_configs')):
        for path in (ROOT / folder).rglob('*.py'):
            relative = path.parent.relative_to(ROOT / folder)
            assert '.'.join([package, *relative.parts]) in packages, f'{path} is in no package'


def test_every_hook_is_listed_documented_and_tested():
    declared = {name for name, value in vars(hookspecs).items() if hasattr(value, 'densessl_spec')}
    assert declared == set(HOOKS)
    tests = ''.join(path.read_text() for path in (ROOT / 'tests').rglob('test_*.py'))
    pages = ''.join(path.read_text() for path in [*(ROOT / 'docs').rglob('*.md'),
                                                  ROOT / 'README.md'])
    for hook in HOOKS:
        assert getattr(hookspecs, hook).__doc__
        assert f'def {hook}(' in tests, f'no test implements {hook}'
        assert f'`{hook}`' in pages, f'no page of docs/ explains {hook}'


@pytest.mark.parametrize('folder', PLUGINS, ids=lambda p: p.name)
def test_every_manifest_says_what_it_is_and_has_a_test(folder):
    manifest = ast.parse((folder / '__init__.py').read_text())
    assert ast.get_docstring(manifest)
    heavy = [node for node in manifest.body if isinstance(node, (ast.Import, ast.ImportFrom))
             and (getattr(node, 'module', '') or '').split('.')[0]
             not in ('__future__', 'typing', 'densessl', 'pathlib')]
    assert heavy == [], 'a manifest imports inside its hooks, so that listing plugins stays fast'
    assert list((ROOT / 'tests' / 'plugins').glob(f'test_{folder.name}*.py')), 'no test'


def test_the_runner_stays_small():
    assert len((ROOT / 'densessl/training/runner.py').read_text().splitlines()) <= 200


def test_no_file_or_function_outgrows_its_reader():
    """Files of at most 300 lines, functions of at most 60 (docstring included)."""
    long = []
    for path in [*CORE, *(ROOT / 'plugins').rglob('*.py')]:
        source = path.read_text()
        if len(source.splitlines()) > 300:
            long.append(f'{path.relative_to(ROOT)}: {len(source.splitlines())} lines')
        long += [f'{path.relative_to(ROOT)}:{node.lineno} {node.name}'
                 for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
                 and node.end_lineno - node.lineno >= 60]
    assert long == []


def test_every_command_has_its_door_in_tools():
    for name in COMMANDS:
        door = ROOT / 'tools' / f'{name}.py'
        assert f"main(['{name}', *sys.argv[1:]])" in door.read_text()
        assert (ROOT / 'densessl' / 'commands' / f'{name}.py').is_file()
    assert {path.stem for path in (ROOT / 'tools').glob('*.py')     # but those for developers
            if not path.stem.startswith(('torture', 'gpu_check'))} == set(COMMANDS)


def test_there_are_no_drawers_for_odds_and_ends():
    names = {path.name for path in ROOT.rglob('*.py')
             if not any(part.startswith('.') for part in path.relative_to(ROOT).parts)}
    assert not names & {'utils.py', 'helpers.py', 'misc.py', 'common.py'}
