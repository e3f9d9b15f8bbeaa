"""Pretrained weights on their way into a downstream model: translated, with a recipe, in place."""
from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.backbones import spelled
from densessl.errors import UsageError
from densessl.planning.decisive_settings import digest_of
from densessl.transfer.handoff import compare_keys
from densessl.transfer.recipe import Recipe, clear_pretrained
from densessl.transfer.target import TransferTarget
from densessl.transfer.translate import counterpart
from densessl.weights.backbone_file import RANDOM, load_backbone_file, save_backbone
from densessl.weights.families import is_plain_resnet
from densessl.weights.group_norm import group_count
from densessl.weights.keymap import State
from densessl.weights.provenance import describe


@dataclass
class Weights:
    """An exported backbone.

    Attributes:
        path: the file.
        state: its weights, in the keys of the library it was built from.
        meta: its provenance.
        placed: the weights in the target's keys, once they are translated.
    """

    path: Path
    state: State
    meta: dict[str, Any]
    placed: State = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Weights:
        """Read an exported file; see :func:`densessl.weights.backbone_file.load_backbone_file`."""
        return cls(Path(path), *load_backbone_file(path))

    @classmethod
    def named(cls, backbone: str | Path) -> Weights | None:
        """The weights that ``--backbone`` names: a file's, or None for random ones."""
        return None if str(backbone) == RANDOM else cls.load(backbone)

    @property
    def source(self) -> str:
        """``'TARGET.name'`` of the pretrained backbone."""
        return self.meta['backbone']['type']

    def fit(self, target: TransferTarget, model: Mapping[str, Any], allow_partial: bool) -> None:
        """Rename the weights to the target's keys, and refuse those of another architecture before
        anything is written: each must have a place of its shape in what receives them, and each
        place there must get one.

        Args:
            model: of the downstream config, as the recipe left it.
            allow_partial: take those that have a place, and leave places empty.

        Raises:
            UsageError: no exact translation is known, some weights have no place, or some places
                stay empty.
        """
        self.placed = target.translate_for(model, self.state, self.source)
        if allow_partial:
            return
        modules = target.build_receivers(model)
        backbone = next(iter(modules.values()))
        keys = compare_keys(self.placed, modules, target.added_modules(backbone, self.placed),
                            by_value=False)
        try:
            keys.require_complete(self.source, target.name)
        except UsageError as error:
            expected = counterpart(target, self.placed, self.meta['backbone'])
            kind = model['backbone']['type']
            if not (keys.loaded or keys.mismatched):
                built = ('another backbone' if expected is None else
                         f"a {expected['type'].partition('.')[2]}")
                raise UsageError(
                    f'{self.path} holds {self.source}, which {target.name} builds as {built}; '
                    f'the backbone of this config is a {kind} and has a place for none of '
                    f'the weights: choose a config with the right one, or set model.backbone'
                ) from error
            raise UsageError(
                f'{error}; it is a {kind}, {self.path} needs '
                f'{spelled(expected) if expected else "another"}: choose a config with that, or '
                f'set model.backbone; --allow-partial goes on without the rest') from error

    def place(self, cfg: Config, target: TransferTarget, folder: Path) -> None:
        """Write the translated weights to ``folder`` and have the downstream config load them."""
        translated = folder / f'backbone_{target.name}.pth'
        save_backbone(translated, self.placed, {**self.meta, 'keys': target.name})
        target.load_weights(cfg, str(translated))

    def __str__(self) -> str:
        return f'{self.path}: {describe(self.meta)}'


def fit_backbone(cfg: Config, target: TransferTarget, weights: Weights | None,
                 keep: Iterable[str], freeze: int | None, allow_partial: bool) -> list[str]:
    """Apply the recipe and translate the weights; return what the recipe changed.

    Raises:
        UsageError: a line of the recipe is unknown, stages cannot be frozen, or weights have no
            translation or no place in the model. Nothing is written before.
    """
    recipe = apply_recipe(cfg, target, weights, keep, freeze)
    if weights:
        weights.fit(target, cfg.model, allow_partial)
    return recipe


def apply_recipe(cfg: Config, target: TransferTarget, weights: Weights | None,
                 keep: Iterable[str] = (), freeze: int | None = None) -> list[str]:
    """Clear other sources of weights and apply the recipe; return what was changed."""
    meta = weights.meta if weights else {}
    recipe = Recipe(
        mean=meta.get('mean'), std=meta.get('std'),
        channel_order=meta.get('channel_order', 'RGB'),
        plain_stem=weights is None or is_plain_resnet(weights.state),
        distributed=cfg.get('launcher', 'none') != 'none',
        groups=group_count(weights.meta['backbone']) if weights else None, keep=frozenset(keep),
        freeze=freeze)
    lines = clear_pretrained(cfg) + target.apply_recipe(cfg, recipe)
    return lines or ['the config follows it already']


def network_of(cfg: Config, target: TransferTarget, weights: Weights | None, keep: Iterable[str],
               freeze: int | None, allow_partial: bool = True) -> dict[str, Any]:
    """The model and the input that :func:`fit_backbone` makes of a downstream config, which stays
    as it is; the weights are translated.

    Raises:
        UsageError: as of :func:`fit_backbone`.
    """
    fitted = copy.deepcopy(cfg)
    fit_backbone(fitted, target, weights, keep, freeze, allow_partial)
    whole = fitted.to_dict()
    return {key: whole[key] for key in ('model', 'data_preprocessor') if whole.get(key)}


def likeness(cfg: Config, target: TransferTarget, pattern: Weights | None, keep: Iterable[str],
             freeze: int | None) -> str | None:
    """Twelve digits of the network and input that random weights take over from ``pattern``; None
    if there is none or they are those without it."""
    if pattern is None:
        return None
    alone, alike = (network_of(cfg, target, one, keep, freeze) for one in (None, pattern))
    return None if alone == alike else digest_of(alike)
