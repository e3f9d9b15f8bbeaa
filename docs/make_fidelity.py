"""Makes docs/fidelity.md from docs/fidelity.yaml and the configs: python docs/make_fidelity.py"""
from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from mmengine import Config

from densessl.config import load_config
from densessl.planning.plan import choose_row
from densessl.registry import METHODS

HERE = Path(__file__).parent
HEAD = """# What is as its authors released it, and what is not

Made by `make fidelity` from `docs/fidelity.yaml` and the configs: a constant that stands in a
config is read from it and compared, what stands in code names the test that shows it. Differences
come first; each config's docstring says its own under *Differs from the release*.

"""


def read_release() -> dict[str, dict[str, Any]]:
    """What was released, by the name of the config."""
    return yaml.safe_load((HERE / 'fidelity.yaml').read_text())


def in_config(name: str, key: str) -> Any:
    """The value of a config at a dotted key.

    Args:
        key: ``'epochs N: KEY'`` reads the config after the recipe's row for N epochs. ``views.*``
            stands for all views, which must agree. A constant of the method that the config leaves
            out is its class's default.
    """
    row, _, rest = key.rpartition(': ')
    cfg = load_config(name)
    if row:
        choose_row(cfg, int(row.removeprefix('epochs ')))
    if '*' in rest:
        values = [_at(cfg, rest.replace('*', str(i))) for i in range(len(cfg.views))]
        return values[0] if all(value == values[0] for value in values) else values
    return _at(cfg, rest)


def _at(cfg: Config, key: str) -> Any:
    first, _, argument = key.partition('.')
    if first == 'model' and argument not in cfg.model and '.' not in argument:
        return inspect.signature(METHODS.get(cfg.model.type)).parameters[argument].default
    value: Any = cfg
    for part in key.split('.'):
        value = value[int(part)] if part.isdigit() else value.get(part)
    return list(value) if isinstance(value, (tuple, list)) else value


def followed(name: str, key: str, released: Any) -> bool:
    """Whether the config has the released value."""
    return in_config(name, key) == released


def page() -> str:
    """The whole of docs/fidelity.md."""
    releases = read_release()
    differences = [(name, what, released, here, source) for name, release in releases.items()
                   for what, released, here, source in _differences(name, release)]
    parts = [HEAD, '## Differences\n\n',
             _table(('config', 'what', 'released', 'here', 'source'), differences)]
    for name, release in releases.items():
        same = [(what, key, _shown(released), source)
                for what, key, released, source in release['constants']
                if followed(name, key, released)]
        code = [(what, f'`{test}`', source) for what, source, test in release['code']]
        parts += [f'\n## {name}\n\nRelease: {release["release"]}.\n\n',
                  _table(('constant, as released', 'key', 'value', 'source'), same), '\n',
                  _table(('in code, as released', 'shown by', 'source'), code)]
    return ''.join(parts)


def _differences(name: str, release: dict[str, Any]) -> list[tuple[str, ...]]:
    """What is stated to differ, and each constant of the config that does."""
    found = [(what, _shown(released), _shown(in_config(name, key)), source)
             for what, key, released, source in release['constants']
             if not followed(name, key, released)]
    return found + [tuple(map(str, row)) for row in release['differs']]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.6g}'
    return ', '.join(map(_shown, value)) if isinstance(value, list) else str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple('---' for _ in head), *rows]
    return ''.join('| ' + ' | '.join(re.sub(r'[|]', r'\|', cell) for cell in line) + ' |\n'
                   for line in lines)


if __name__ == '__main__':
    (HERE / 'fidelity.md').write_text(page())
