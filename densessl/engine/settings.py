"""The settings of a run that decide its result: compared with a checkpoint's and a recipe's."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine import Config

DECISIVE = ('model', 'views', 'masks', 'normalization', 'schedule', 'optim_wrapper', 'sync_bn',
            'uniforms', 'value_range', 'bands')
Value = str | int | float | bool | None


def settings_of(cfg: Config) -> dict[str, Value]:
    """The decisive settings of a pretraining config by dotted key, such as ``model.temperature``;
    what is neither a number nor a word is spelt out."""
    return leaves_of(cfg, DECISIVE)


def leaves_of(cfg: Config, sections: Iterable[str]) -> dict[str, Value]:
    """All values in those of ``sections`` that a config has, by dotted key."""
    return {key: value for name in sections if name in cfg
            for key, value in _leaves(name, cfg[name])}


def changes(was: Mapping[str, Value], now: Mapping[str, Value]) -> list[tuple[str, Value, Value]]:
    """(key, old value, new value) of the settings that are not the same; None for one that is not
    there."""
    return [(key, was.get(key), now.get(key)) for key in dict.fromkeys([*was, *now])
            if was.get(key) != now.get(key)]


def _leaves(key: str, node: Any) -> list[tuple[str, Value]]:
    if isinstance(node, Mapping):
        return [leaf for name, child in node.items() for leaf in _leaves(f'{key}.{name}', child)]
    if isinstance(node, (list, tuple)) and any(isinstance(child, Mapping) for child in node):
        return [leaf for i, child in enumerate(node) for leaf in _leaves(f'{key}.{i}', child)]
    if isinstance(node, (list, tuple)):
        return [(key, str(list(node)))]
    plain = isinstance(node, (str, int, type(None))) or (
        isinstance(node, float) and math.isfinite(node))      # JSON has no infinity
    return [(key, node if plain else str(node))]
