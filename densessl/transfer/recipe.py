"""The recipe that self-supervised weights need in a downstream config, change by change.

Stock configs are made for supervised weights: they freeze the stem and the first stage, keep BN
statistics as they are, and change the stem. Users' reports put the price of the frozen stem and BN
alone at about 14 box AP for BYOL on COCO, with 27.0 left. A target composes the parts
below in its ``apply_recipe``; each returns the lines that say what it changed from and to.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from densessl.errors import UsageError, check_keys
from densessl.overrides import dicts_within


@dataclass(frozen=True)
class Line:
    """A line of the recipe: what ``keep`` leaves as it is in the config, and what that cost others.
    """

    keeps: str
    cost: str


LINES = {   # what ``keep`` can name; the figures are of users' reports
    'frozen': Line('frozen stages and frozen BN statistics',
                   'a frozen stem and frozen BN cost users about 14 box AP on COCO'),
    'norm': Line('the kind of BN and whether it is trained',
                 'BN that stays frozen cost users, with a frozen stem, about 14 box AP on COCO'),
    'input': Line('mean, std and channel order',
                  'every weight loads, and meets other images than it was trained on: a known '
                  'cause of low scores, without a figure of its own'),
    'stem': Line('the stem',
                 'a ResNetV1c or V1d cannot load a plain ResNet’s stem, which then starts from '
                 'random weights'),
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
        freeze: how many stages are frozen, besides the stem; None: nothing is.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: str = 'RGB'
    plain_stem: bool = True
    distributed: bool = False
    groups: int | None = None
    keep: frozenset[str] = frozenset()
    freeze: int | None = None

    def __post_init__(self) -> None:
        check_keys('the recipe lines to keep', self.keep, LINES)
        if self.freeze is not None and self.freeze < 0:
            raise UsageError(f'--freeze must be 0 (the stem alone) or more, not {self.freeze}; '
                             f'without it nothing is frozen')
        if self.freeze is not None and 'frozen' in self.keep:
            raise UsageError(f'--freeze {self.freeze} and --keep frozen contradict each other; '
                             f'leave one of them out')

    def priced(self, line: str, changes: list[str]) -> list[str]:
        """``changes`` of ``line`` and, if there are any, what leaving it out cost others."""
        why = f'why: {LINES[line].cost} (--keep {line} leaves this as it was)'
        return [*changes, why] if changes else []

    def kept(self) -> list[str]:
        """A line for each that is left as the config has it."""
        return [f'kept as in the config: {LINES[line].keeps} ({LINES[line].cost})'
                for line in sorted(self.keep)]


def clear_pretrained(cfg: Any) -> list[str]:
    """Take every other source of weights out of a downstream config: this run starts from the
    given backbone or from random weights, and no config makes it download any."""
    lines = []
    if cfg.get('load_from'):
        lines.append(f'load_from: {cfg.load_from!r} → None (weights come from --backbone alone)')
        cfg.load_from = None
    for path, node in list(dicts_within({'model': cfg.model})):
        if isinstance(node.get('pretrained'), str):
            lines.append(f'{path}.pretrained: {node["pretrained"]!r} → none')
            node['pretrained'] = None
        if checkpoints := _checkpoints(node.get('init_cfg')):
            lines.append(f'{path}.init_cfg: {checkpoints[0]!r} → none')
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


def freeze_stages(backbone: Any, parameters: Mapping[str, Any], stages: int) -> list[str]:
    """Freeze the stem and the first ``stages`` stages: their weights and BN statistics stay as
    they were loaded, and only the rest of the network is trained.

    Args:
        backbone: the backbone's part of the config; changed in place.
        parameters: arguments of its class and their defaults (:func:`parameters_of`), among them
            ``frozen_stages``.

    Raises:
        UsageError: the backbone has fewer stages.
    """
    options = {**parameters, **backbone}
    number = options.get('num_stages') or len(options.get('depths') or ()) or None
    if isinstance(number, int) and stages > number:
        raise UsageError(f'--freeze {stages}: the {backbone["type"]} backbone of this config has '
                         f'{number} stages; give 0 (the stem alone) to {number}')
    backbone['frozen_stages'] = stages
    what = {0: 'the stem', 1: 'the stem and stage 1'}.get(stages, f'the stem and stages 1–{stages}')
    return [f'backbone.frozen_stages: {stages} (--freeze: {what} stay as loaded)']


def train_norm(model: Any, parameters: Mapping[str, Any], distributed: bool) -> list[str]:
    """Train every BN of the model, synchronized over the devices if there are several."""
    kind, other = ('SyncBN', 'BN') if distributed else ('BN', 'SyncBN')
    if distributed and 'norm_cfg' in parameters and 'norm_cfg' not in model['backbone']:
        default = parameters['norm_cfg']
        if isinstance(default, Mapping) and default.get('type') == other:
            model['backbone']['norm_cfg'] = dict(default)
    norms = [node['norm_cfg'] for _, node in dicts_within({'model': model})
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


def _checkpoints(init_cfg: Any) -> list[Any]:
    """The files that an ``init_cfg`` would load."""
    entries = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return [entry['checkpoint'] for entry in entries
            if isinstance(entry, dict) and 'checkpoint' in entry]
