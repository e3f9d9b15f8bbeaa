"""Fitting a downstream config to weights: recipe, translation, and a place for each of them."""
from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from mmengine import Config

from densessl.finetune.run_folder import digest_of
from densessl.finetune.weights import Weights
from densessl.transfer.recipe import Recipe, clear_pretrained
from densessl.transfer.target import TransferTarget
from densessl.weights.families import is_plain_resnet
from densessl.weights.group_norm import group_count


def fit_backbone(cfg: Config, target: TransferTarget, weights: Weights | None,
                 keep: Iterable[str], freeze: int | None, allow_partial: bool) -> list[str]:
    """Translate the weights and apply the recipe; return what was changed.

    Raises:
        UsageError: a line of the recipe is unknown, stages cannot be frozen, or weights have no
            translation or no place in the model. Nothing is written before.
    """
    if weights:
        weights.translate(target, cfg.model)
    recipe = apply_recipe(cfg, target, weights, keep, freeze)
    if weights and not allow_partial:
        weights.require_place(cfg.model, target)
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
               freeze: int | None) -> dict[str, Any]:
    """The model and the input that the recipe makes of a downstream config for ``weights``."""
    fitted = copy.deepcopy(cfg)
    apply_recipe(fitted, target, weights, keep, freeze)
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
