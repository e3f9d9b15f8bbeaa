"""The settings of a run that decide its result: compared with a checkpoint's and a recipe's."""
from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine import Config

from densessl.views.photometry_draw import DEFAULT_STYLE

DECISIVE = ('model', 'views', 'masks', 'normalization', 'schedule', 'optim_wrapper', 'sync_bn',
            'uniforms', 'value_range', 'bands')
MASKS_MADE = 'masks made by'      # in an identity: how those in the store were made
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
    """(key, old value, new value) of the settings that differ; None for a missing
    one."""
    return [(key, was.get(key), now.get(key)) for key in dict.fromkeys([*was, *now])
            if was.get(key) != now.get(key)]


def settings_of_views(views: Iterable[Any]) -> dict[str, Value]:
    """What views (``AugmentedView``) took as their default, by dotted key: a default that changes
    in a later release changes no run that is resumed."""
    settings: dict[str, Value] = {}
    for i, view in enumerate(views):
        settings[f'views.{i}.style'] = view.photometric['style']
        if view.photometric['blur']:
            settings[f'views.{i}.blur.kernel'] = view.photometric['blur']['kernel']
    return settings


def as_views_have_it(identity: Mapping[str, Value]) -> dict[str, Value]:
    """The identity of a run as it is spelt now: before views had a style and a kernel of their
    own, the style was torchvision's and the kernel ``normalization.blur_kernel``, 23 by default."""
    now = dict(identity)
    if any(re.fullmatch(r'views\.\d+\.style', key) for key in now):
        return now
    kernel = now.pop('normalization.blur_kernel', 23)
    for key in identity:
        if found := re.match(r'views\.\d+\.', key):
            now[f'{found[0]}style'] = DEFAULT_STYLE
            if key.startswith(f'{found[0]}blur.'):
                now[f'{found[0]}blur.kernel'] = kernel
    return now


def digest_of(content: Any, digits: int = 12) -> str:
    """Hexadecimal digits that change with any value in ``content``."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


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
