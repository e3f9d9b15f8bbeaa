"""``densessl plugins``: what is installed, from where, what of it is broken; ``plugins new NAME``
writes a complete plugin to start from."""
from __future__ import annotations

import argparse
import keyword
import re
from importlib.util import find_spec
from pathlib import Path

from densessl import __all__

TEMPLATE = Path(__file__).parents[1] / 'plugin_template'
IMPORTED = {'Any', 'Path', 'Tensor', *__all__}     # names that a written file imports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest='action', metavar='new NAME')
    new = actions.add_parser('new', help='write a new plugin: a method, a mask generator, a '
                             'config, a test and a project file')
    new.add_argument('name', help='lower-case letters, digits and underscores')
    new.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                     help='show tracebacks of errors')
    new.add_argument('--out', type=Path, help='the new folder (default: densessl-NAME)')


def run(args: argparse.Namespace) -> int:
    """Print the table of plugins (exit code 1 if one is broken), or write a new plugin."""
    if args.action == 'new':
        folder = write_plugin(args.name, args.out or Path(f'densessl-{args.name}'))
        print(f'wrote {folder}; next: pip install -e {folder} && densessl plugins')
        return 0
    return list_plugins()


def list_plugins() -> int:
    """Print plugins, their distributions and what they provide; 1 if one is broken."""
    from rich.console import Console
    from rich.table import Table

    from densessl.plugins import broken_plugins, load_plugins, name_of

    table = Table('plugin', 'distribution', 'provides', box=None, header_style='bold')
    for plugin in load_plugins():
        lines = [f'{hook.replace("_", " ")}: '
                 + ', '.join(str(thing) if hook == 'config_folders' else name_of(thing)
                             for thing in things)
                 for hook, things in plugin.provides.items()]
        if plugin.reason:
            lines = [f'BROKEN: {plugin.reason}']
        if plugin.disabled:
            lines = ['disabled by DENSESSL_DISABLE_PLUGINS']
        table.add_row(plugin.name, f'{plugin.distribution} {plugin.version}', '\n'.join(lines))
    Console(soft_wrap=False).print(table)
    return 1 if broken_plugins() else 0


def write_plugin(name: str, folder: Path) -> Path:
    """Write a complete third-party plugin.

    Args:
        name: the plugin's, its method's and its package's name.
        folder: where; must not exist.

    Raises:
        UsageError: the name is not a Python name or is taken by an installed plugin or package,
            or the folder already exists.
    """
    from densessl.errors import UsageError
    from densessl.plugins import load_plugins, name_of
    class_name = ''.join(word.capitalize() for word in name.split('_'))
    if (not re.fullmatch('[a-z][a-z0-9_]*', name) or class_name in IMPORTED
            or {name, class_name} & set(keyword.kwlist)):
        raise UsageError(f'{name!r} is not a plugin name: it must be a lower-case letter, then '
                         f'letters, digits and underscores, and not a word of Python or of '
                         f'densessl itself')
    for plugin in load_plugins():
        names = {name_of(thing) for hook, things in plugin.provides.items()
                 if hook != 'config_folders' for thing in things}
        if name in {plugin.name, *names}:
            raise UsageError(f'the name {name!r} is taken by the plugin {plugin.label}; '
                             f'choose another')
    if find_spec(f'densessl_{name}'):
        raise UsageError(f'the name {name!r} would make a package densessl_{name}, and there is '
                         f'one already; choose another name')
    if folder.exists():
        raise UsageError(f'{folder} already exists; choose another --out')
    words = dict(name=name, package=f'densessl_{name}', Class=class_name)
    places = {'package/configs/config.py': f'{words["package"]}/configs/{name}_r18.py',
              'tests/test_plugin.py': f'tests/test_{name}.py'}
    for source in sorted(TEMPLATE.rglob('*.txt')):
        relative = source.relative_to(TEMPLATE).with_suffix('').as_posix()
        place = places.get(relative, relative.replace('package/', f'{words["package"]}/'))
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text().format(**words))
    return folder
