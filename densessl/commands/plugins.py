"""``densessl plugins``: what is installed, from where, and what of it is broken."""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(args: argparse.Namespace) -> int:
    """Print a table of plugins; exit code 1 if one is broken."""
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
