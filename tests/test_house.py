"""The plan of the house: an import points to an earlier room, and no files import in a circle.

Imports inside functions and for types count like any other.
"""
from __future__ import annotations

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / 'plugins').is_dir(), reason='runs in a checkout only')

# Files of densessl/ and its folders. What stands here may import what stands before it.
ORDER = [
    # what any room may use
    'errors', 'environment', 'bounds', 'files', 'machine', 'progress',
    # what a method's author uses
    'precision', 'ema', 'method', 'heads', 'dist',
    # the door: plugins, what they provide, configs by name
    'overrides', 'hookspecs', 'plugins', 'registry', 'backbones', 'config',
    # the product's sentence
    'pixels', 'images', 'labels', 'pictures', 'masks', 'shards', 'views',
    'engine', 'devices', 'weights', 'transfer', 'export', 'features', 'watch', 'planning',
    'training', 'finetune', 'probes', 'report', 'benchmark', 'study', 'demo',
    'commands', 'cli', '__main__']
FILES = {'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
         for path in (ROOT / 'densessl').rglob('*.py')}
MOST_FILES = 16     # of a folder, besides those of Python's own names


def imports(path: Path, files: dict[str, Path]) -> set[str]:
    """The modules among ``files`` that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f'{node.module}.{alias.name}') in files else node.module
                      for alias in node.names}
    return found & set(files)


def room(module: str) -> str | None:
    """The entry of ORDER to which a module belongs; None for the package's face itself."""
    parts = module.split('.')
    return parts[1] if len(parts) > 1 else None


def upward(files: dict[str, Path]) -> list[str]:
    place = {name: i for i, name in enumerate(ORDER)}
    return [f'{module} imports {other}, which stands later' for module, path in files.items()
            for other in sorted(imports(path, files)) if room(module) and room(other)
            and place[room(other)] > place[room(module)]]


def circle(files: dict[str, Path]) -> list[str]:
    try:
        TopologicalSorter({module: imports(path, files) - {module}
                           for module, path in files.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_room_has_its_place():
    assert {room(module) for module in FILES} - {None} == set(ORDER)


def test_imports_point_to_earlier_rooms():
    assert upward(FILES) == []


def test_no_files_import_in_a_circle():
    assert circle(FILES) == []


def test_no_folder_holds_more_than_one_remembers():
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in FILES.values()
                     if path.stem not in ('__init__', '__main__'))
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_the_checks_can_fail(tmp_path):
    (tmp_path / 'errors.py').write_text('def f():\n    from densessl.cli import main\n')
    (tmp_path / 'cli.py').write_text('from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n'
                                     '    import densessl.errors\n')
    files = {f'densessl.{name}': tmp_path / f'{name}.py' for name in ('errors', 'cli')}
    assert upward(files) == ['densessl.errors imports densessl.cli, which stands later']
    assert set(circle(files)) == {'densessl.errors', 'densessl.cli'}
