"""The recipe that self-supervised weights need in a downstream config, change by change.

Stock configs are made for supervised weights: they freeze the stem and the first stage, keep BN
statistics as they are, and change the stem. Users' reports put the price of the frozen stem and BN
alone at about 14 box AP for BYOL on COCO (27.0 instead of about 41). A target composes the parts
below in its ``apply_recipe``; each returns the lines that say what it changed from and to.
"""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from densessl.config import check_keys

LINES = {   # what ``keep`` can name, and what it keeps as the config has it
    'frozen': 'frozen stages and frozen BN statistics',
    'norm': 'the kind of BN and whether it is trained',
    'input': 'mean, std and channel order',
    'stem': 'the stem',
}


@dataclass(frozen=True)
class Recipe:
    """What the pretraining was, as far as a downstream config has to follow it.

    Attributes:
        mean, std: of the pixels 0 … 255, three each in ``channel_order``; None if nothing was
            pretrained.
        channel_order: ``'RGB'`` or ``'BGR'``.
        plain_stem: whether the backbone has a ResNet's plain 7×7 stem. Also without pretraining,
            so that random initialization is compared on the same network.
        distributed: whether several devices train together, so that BN has to be synchronized.
        groups: of the backbone's norms if they are group norms (1: layer norm), else None.
        keep: the lines of :data:`LINES` that are left as the config has them.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: str = 'RGB'
    plain_stem: bool = True
    distributed: bool = False
    groups: int | None = None
    keep: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_keys('the recipe lines to keep', self.keep, LINES)

    def applies(self, line: str) -> bool:
        """Whether ``line`` is to be applied."""
        return line not in self.keep


def clear_pretrained(cfg: Any) -> list[str]:
    """Take every other source of weights out of a downstream config: this run starts from the
    given backbone or from random weights, and no config makes it download any."""
    lines = []
    if cfg.get('load_from'):
        lines.append(f'load_from: {cfg.load_from!r} → None (weights come from --backbone alone)')
        cfg.load_from = None
    for path, node in list(_dicts(cfg.model, 'model')):
        if isinstance(node.get('pretrained'), str):
            lines.append(f'{path}.pretrained: {node["pretrained"]!r} → none')
            node['pretrained'] = None
        if _is_pretrained(node.get('init_cfg')):
            lines.append(f'{path}.init_cfg: {_checkpoint(node["init_cfg"])!r} → none')
            del node['init_cfg']
    return lines


def unfreeze(backbone: Any, parameters: Mapping[str, Any]) -> list[str]:
    """Freeze no stage and no BN statistics.

    Args:
        backbone: the backbone's part of the config; changed in place.
        parameters: arguments of its class and their defaults (:func:`parameters_of`).
    """
    lines = []
    for key, value, why in (('frozen_stages', -1, 'nothing frozen'),
                            ('norm_eval', False, 'BN statistics follow the new images')):
        old = backbone.get(key, parameters.get(key))
        if key in parameters and old != value:
            backbone[key] = value
            lines.append(f'backbone.{key}: {old} → {value} ({why})')
    return lines


def train_norm(model: Any, parameters: Mapping[str, Any], distributed: bool) -> list[str]:
    """Train every BN of the model, synchronized over the devices if there are several."""
    kind, other = ('SyncBN', 'BN') if distributed else ('BN', 'SyncBN')
    if distributed and 'norm_cfg' in parameters and 'norm_cfg' not in model['backbone']:
        default = parameters['norm_cfg']
        if isinstance(default, Mapping) and default.get('type') == other:
            model['backbone']['norm_cfg'] = dict(default)
    norms = [node['norm_cfg'] for _, node in _dicts(model, 'model')
             if isinstance(node.get('norm_cfg'), dict)]
    changed = [norm for norm in norms if norm.get('type') == other]
    frozen = [norm for norm in norms if norm.get('requires_grad') is False]
    for norm in changed:
        norm['type'] = kind
    for norm in frozen:
        norm['requires_grad'] = True
    lines = []
    if changed:
        why = 'statistics over all devices' if distributed else 'one device'
        lines.append(f'norm_cfg: {other} → {kind} at {len(changed)} places ({why})')
    if frozen:
        lines.append(f'norm_cfg.requires_grad: False → True at {len(frozen)} places')
    return lines


def match_input(preprocessor: Any, recipe: Recipe, loaded: str) -> list[str]:
    """Normalize as the pretraining did.

    Args:
        preprocessor: the data preprocessor's part of the config; changed in place.
        recipe: the pretraining's mean, std and channel order.
        loaded: channel order of the images that the library's loaders deliver.
    """
    if recipe.mean is None or recipe.std is None:
        return []
    swap = recipe.channel_order != loaded
    flag, opposite = (('bgr_to_rgb', 'rgb_to_bgr') if loaded == 'BGR'
                      else ('rgb_to_bgr', 'bgr_to_rgb'))
    lines = []
    for key, new, old in (('mean', list(recipe.mean), preprocessor.get('mean')),
                          ('std', list(recipe.std), preprocessor.get('std')),
                          (flag, swap, preprocessor.get(flag, False)),
                          (opposite, False, preprocessor.get(opposite, False))):
        if old is None or (list(old) if isinstance(new, list) else old) != new:
            preprocessor[key] = new
            lines.append(f'data_preprocessor.{key}: {old} → {new} (as in pretraining)')
    return lines


def parameters_of(cls: type) -> dict[str, Any]:
    """The arguments of a class and their defaults, those behind ``**kwargs`` included; the key
    ``'**'`` if it takes any others besides."""
    found: dict[str, Any] = {}
    for ancestor in cls.__mro__:
        parameters = inspect.signature(ancestor.__init__).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found
    return {**found, '**': True}


def _dicts(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every dict within ``node`` and its path, outermost first."""
    if isinstance(node, dict):
        yield path, node
    items: Iterable[tuple[Any, Any]] = (
        node.items() if isinstance(node, dict)
        else enumerate(node) if isinstance(node, (list, tuple)) else ())
    for key, value in list(items):
        if key != 'init_cfg':
            yield from _dicts(value, f'{path}.{key}')


def _is_pretrained(init_cfg: Any) -> bool:
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any(isinstance(entry, dict) and 'checkpoint' in entry for entry in entries)


def _checkpoint(init_cfg: Any) -> str:
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return next(entry['checkpoint'] for entry in entries if 'checkpoint' in entry)
