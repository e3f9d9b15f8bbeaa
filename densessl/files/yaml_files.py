"""YAML from anywhere, read with care."""
from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml

from densessl.errors import UsageError, shown


class _Once:
    """Refuses a key that is given twice, of which YAML's own takes the last in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, given = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(':merge'):
                name = self.construct_object(key)
                if {name, str(name)} & given:       # readers take 1 and '1' for the same
                    raise yaml.MarkedYAMLError(problem=f'the key {shown(name)} is given twice',
                                               problem_mark=key.start_mark)
                given |= {name, str(name)}
        return node


class _Values(_Once, yaml.SafeLoader):
    pass


class _Words(_Once, yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in found if tag.endswith(':merge')]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def read_yaml(path: Path, *, words: bool = False) -> Any:
    """What a YAML file (UTF-8, or UTF-16 with its mark) holds.

    Args:
        words: whether all values stay text: ``no`` is a word, ``1`` is not a number.

    Raises:
        UsageError: it cannot be read, is not YAML, or gives a key twice, by its line.
    """
    try:
        return yaml.load(path.read_bytes(), _Words if words else _Values)
    except OSError as error:
        raise UsageError(f'cannot read {path}: {error.strerror}') from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:    # ValueError: of odd dates
        where = getattr(error, 'problem_mark', None)
        reason = ' '.join(str(getattr(error, 'problem', None) or error).split())
        raise UsageError(f'{path} cannot be read as YAML: {reason}'
                         + (f' in line {where.line + 1}' if where else '')) from error
