"""Turn self-supervised weights that users have into a backbone with provenance."""
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from densessl.backbones import target_names
from densessl.errors import UsageError, did_you_mean, escaped
from densessl.export.foreign_file import (
    AUTO,
    Foreign,
    Found,
    account,
    foreign_tensors,
    starts_of,
)
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.foreign_checkpoints import (
    WRAPPERS,
    CheckpointLayout,
    Parts,
    image_inputs,
    sort_tensors,
)
from densessl.transfer.target import TransferTarget
from densessl.weights.backbone_file import weights_hash
from densessl.weights.key_layouts import ODD_SHAPES
from densessl.weights.keymap import State
from densessl.weights.stated_backbone import build_stated


def read_foreign(path: Path, foreign: Foreign) -> tuple[State, dict[str, Any], list[str]]:
    """Find the backbone in a foreign checkpoint by its layout and shapes.

    Returns:
        Its weights, its provenance, and lines that say what was detected, dropped and assumed.

    Raises:
        UsageError: not readable without running code; no layout fits, or several do with
            different weights.
    """
    tensors, shells, foreign, taken = foreign_tensors(path, foreign)
    candidates, tensors, dropped = candidate_layouts(path, tensors, foreign.layout)
    fits: dict[str, Found] = {}     # what every fitting layout finds, by the weights
    near: list[tuple[int, str]] = []
    for target, layout in candidates:
        parts = sort_tensors(tensors, layout)
        reason = parts.reason or _identify(target, layout, parts, fits)
        if reason:
            near.append((len(parts.backbone), f'{layout.name}: {reason}'))
    if not fits:
        raise UsageError(escaped(_why_not(path, tensors, foreign, near)))
    return account(path, fits, dropped, foreign, shells, taken)[:3]


def layout_names() -> list[str]:
    """What ``export --from`` takes besides a prefix."""
    return [AUTO, *sorted({layout.name for _, layout in _layouts()})]


def _layouts() -> list[tuple[TransferTarget, CheckpointLayout]]:
    found: list[tuple[TransferTarget, CheckpointLayout]] = []
    for name in target_names():
        target = TRANSFER_TARGETS.get(name)()
        found += [(target, layout) for layout in target.checkpoints()]
    # the most specific first: it names what the others find as well
    return sorted(found, key=lambda entry: not entry[1].requires)


def candidate_layouts(path: Path, tensors: State, asked: str
                ) -> tuple[list[tuple[TransferTarget, CheckpointLayout]], State, list[str]]:
    """The layouts to try, the tensors to try them on, and the keys that are out already."""
    all_layouts = _layouts()
    if asked == AUTO:
        return all_layouts, tensors, []
    if not asked.endswith('.'):
        named = [(target, layout) for target, layout in all_layouts if layout.name == asked]
        if not named:
            raise UsageError(
                f'unknown layout --from {asked}{did_you_mean(asked, layout_names())}; known: '
                f'{", ".join(layout_names())}; or the prefix of the backbone’s keys, with a dot '
                f'at its end')
        return named, tensors, []
    prefix = re.compile(WRAPPERS + re.escape(asked))
    inside = {key if key.startswith(asked) else asked + key[match.end():]: value
              for key, value in tensors.items() if (match := prefix.match(key))}
    if not inside:
        raise UsageError(f'no key of {path} begins with {asked}; they begin with '
                         f'{starts_of(list(tensors))}')
    plain = {(target.name, id(layout.keys)): (target, replace(
        layout, name=f'keys after {asked}', origin='prefix given', method='unknown',
        prefix=re.escape(asked), others=r'(?!)', requires=''))
        for target, layout in all_layouts}
    outside = [key for key in tensors if not prefix.match(key)]
    return list(plain.values()), inside, outside


def _identify(target: TransferTarget, layout: CheckpointLayout, parts: Parts,
              fits: dict[str, Found]) -> str:
    """Enter the library's backbone that takes all of the weights into ``fits``; return why there
    is none, if there is none."""
    if layout.network is not None:
        cfg, weights = layout.network(parts.backbone), weights_hash(parts.backbone)
        if cfg is None:
            return f'{target.name} builds none of this depth and width'
        if weights in fits:
            fits[weights].agreeing.append(layout.name)
            return ''
        return _enter(cfg, parts.backbone, layout, parts, fits, weights)
    reason = f'its {len(parts.backbone)} tensors match no known backbone of {target.name}'
    for target_layout in target.layouts():
        neutral = target_layout.read(parts.backbone)
        if neutral is None or (layout.families and target_layout.family not in layout.families):
            continue
        weights = weights_hash(neutral)
        if weights in fits:
            fits[weights].agreeing.append(layout.name)
            return ''
        try:
            cfg = target_layout.backbone(target_layout.family.shape(neutral))
            state = target_layout.write(neutral)
        except ODD_SHAPES:
            cfg = state = None
        if cfg is None or state is None:
            reason = f'{target.name} builds no {target_layout.family.name} of this depth and width'
            continue
        reason = _enter(cfg, state, layout, parts, fits, weights)
        if not reason:
            return ''
    return reason


def _enter(cfg: dict[str, Any], state: State, layout: CheckpointLayout, parts: Parts,
           fits: dict[str, Found], weights: str) -> str:
    """Enter a backbone that takes all of its weights; return why not, if it does not."""
    found = Found(layout, cfg, state, parts.dropped, [layout.name])
    found.try_on(build_stated(cfg, layout.name))
    if not found.reason:
        fits[weights] = found
    return found.reason


def _why_not(path: Path, tensors: State, foreign: Foreign, near: list[tuple[int, str]]) -> str:
    if foreign.layout != AUTO:
        return f'{path} does not fit --from {foreign.layout}: {max(near)[1].partition(": ")[2]}'
    stems = image_inputs(tensors)
    several = (f'; it has {len(stems)} encoders ({", ".join(stems[:3])}): name the prefix of '
               f'one, such as --from {stems[0].rsplit(".", 2)[0]}.' if len(stems) > 1 else '')
    return (f'{path} has no known layout; its keys begin with {starts_of(list(tensors))}; '
            f'closest to {max(near)[1]}{several}. Known are {", ".join(layout_names()[1:])}; or '
            f'give the prefix of the backbone’s keys to --from, with a dot at its end')
