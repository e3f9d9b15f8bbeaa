"""The commands: each module adds its arguments to a parser and runs."""
from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from densessl.errors import Interrupted, UsageError


def add_config_arguments(parser: argparse.ArgumentParser, kind: str, default: str) -> None:
    """Declare a config of a ``kind``, overrides of it for :func:`parse_options`, and what
    :func:`add_pixel_arguments` does."""
    parser.add_argument('config', help=f'path or name of a {kind} config')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE',
                        help='override keys of the config')
    add_pixel_arguments(parser, default)


def add_pixel_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare how stored values become pixels; :func:`pixel_arguments` reads it.

    Args:
        default: the default, in words.
    """
    parser.add_argument('--value-range', nargs='+', metavar='VALUE',
                        help='of images of more than 8 bits: the values that become black and '
                        f'white, as LOW HIGH, minmax, or percentile 1 99 (default: {default})')
    parser.add_argument('--bands', nargs='+', type=int, metavar='N', help='of a TIFF: which of its '
                        'bands, counted from 1, are red, green and blue (default: the first three)')


def pixel_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """``value_range`` and ``bands`` as the user gave them; without those that were not given."""
    from densessl.pixels.pixel_rule import parse_range
    given = {'value_range': parse_range(args.value_range), 'bands': args.bands}
    return {key: value for key, value in given.items() if value is not None}


def parse_options(pairs: Iterable[str] | None) -> dict[str, Any]:
    """``['a.b=1', 'c=[1, 2]', 'd=text']`` → ``{'a.b': 1, 'c': [1, 2], 'd': 'text'}``."""
    options = {}
    for pair in pairs or ():
        key, equals, text = pair.partition('=')
        if not equals or not key:
            raise UsageError(f'{pair!r} is not of the form KEY=VALUE')
        options[key] = _literal(text)
    return options


def _literal(text: str) -> Any:
    words = {'true': True, 'false': False, 'none': None, 'null': None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


@contextmanager
def resumed_by_same_command(kept: object = '') -> Iterator[None]:
    """Within, Ctrl-C ends the command with a line that says how to go on.

    Args:
        kept: the folder of what is done so far, if it is to be named.

    Raises:
        Interrupted: in the place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        where = f' in {kept}' if kept else ''
        raise Interrupted(f'stopped; what is done is kept{where}, and the same command goes on '
                          f'with it') from stop
