"""Turn self-supervised weights that users have into a backbone with provenance."""
from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from densessl import __version__
from densessl.backbones import feature_maps, spelled, target_names
from densessl.errors import UsageError, did_you_mean, escaped
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.backbone_file import load_foreign, weights_hash
from densessl.transfer.checkpoints import (
    WRAPPERS,
    CheckpointLayout,
    Parts,
    image_inputs,
    sort_tensors,
    tensors_of,
)
from densessl.transfer.handoff import compare_keys, normalize, reference_image
from densessl.transfer.keymap import State
from densessl.transfer.layouts import ODD_SHAPES
from densessl.transfer.stated_backbone import build_stated
from densessl.transfer.target import TransferTarget

AUTO = 'auto'


@dataclass(frozen=True)
class Foreign:
    """What the user says of a foreign checkpoint.

    Attributes:
        layout: ``'auto'``, the name of a layout, or the prefix of the backbone's keys with its
            dot at the end.
        mean, std: of the pixels 0 … 255, three each; the layout's own if None.
        channel_order: ``'RGB'`` or ``'BGR'``; the layout's own if None.
    """

    layout: str = AUTO
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: str | None = None

    def __post_init__(self) -> None:
        for name in ('mean', 'std'):
            values = getattr(self, name)
            if values is not None and (len(values) != 3 or not all(map(math.isfinite, values))
                                       or (name == 'std' and min(values) <= 0)):
                raise UsageError(f'--{name} {values}: three numbers for pixels of 0 … 255'
                                 + (' above 0' if name == 'std' else ''))


@dataclass
class Found:
    """A layout that fits, the backbone it is and its weights in its library's keys."""

    layout: CheckpointLayout
    backbone: dict[str, Any]
    state: State
    dropped: list[str]
    agreeing: list[str]   # names of all the layouts that find these very weights


def read_foreign(path: Path, foreign: Foreign) -> tuple[State, dict[str, Any], list[str]]:
    """Find the backbone in a foreign checkpoint.

    Returns:
        Its weights, its provenance, and lines that say what was detected, dropped and assumed.

    Raises:
        UsageError: not readable without running code; no layout fits, or several do with
            different weights.
    """
    content, shells = load_foreign(path)
    meta = content.get('meta')
    if isinstance(meta, dict) and ('sha256' in meta or 'densessl' in meta):
        raise UsageError(f'{path} was written by densessl; leave out --from')
    tensors = tensors_of(content)
    if not tensors:
        raise UsageError(f'{path} holds no named tensors' + (
            ', but Python objects: if one is the model, save model.state_dict() instead'
            if shells else ''))
    found = _detect(path, tensors, foreign)
    lines = [f'detected: {" or ".join(found.agreeing)} ({found.layout.origin}): '
             f'{spelled(found.backbone)}, {len(found.state)} tensors']
    if found.dropped:
        lines.append(f'dropped: {len(found.dropped)} tensors that are not the backbone’s '
                     f'({_starts(found.dropped)})')
    if shells:
        lines.append('left aside: Python objects beside the weights; nothing of them was run')
    return found.state, _provenance(path, found, foreign, lines), lines


def layout_names() -> list[str]:
    """What ``export --from`` takes besides a prefix."""
    return [AUTO, *sorted({layout.name for _, layout in _layouts()})]


def _layouts() -> list[tuple[TransferTarget, CheckpointLayout]]:
    found: list[tuple[TransferTarget, CheckpointLayout]] = []
    for name in target_names():
        target = TRANSFER_TARGETS.get(name)()
        found += [(target, layout) for layout in target.checkpoints()]
    # the more telling first: it names what the others find as well
    return sorted(found, key=lambda entry: not entry[1].requires)


def _detect(path: Path, tensors: State, foreign: Foreign) -> Found:
    """The backbone that every fitting layout finds."""
    candidates, tensors, dropped = _candidates(path, tensors, foreign.layout)
    fits: dict[str, Found] = {}     # by the weights
    near: list[tuple[int, str]] = []
    for target, layout in candidates:
        parts = sort_tensors(tensors, layout)
        if not parts.reason:
            _identify(target, layout, parts, fits)
        if parts.reason:
            near.append((len(parts.backbone), f'{layout.name}: {parts.reason}'))
    if len(fits) > 1:
        names = ', '.join(found.layout.name for found in fits.values())
        raise UsageError(f'{path} can be read in different ways: {names}; say which with --from')
    if not fits:
        raise UsageError(escaped(_why_not(path, tensors, foreign, near)))
    found, = fits.values()
    found.dropped += dropped
    return found


def _candidates(path: Path, tensors: State, asked: str
                ) -> tuple[list[tuple[TransferTarget, CheckpointLayout]], State, list[str]]:
    """The layouts to try, the tensors to try them on, and the keys that are out already."""
    every = _layouts()
    if asked == AUTO:
        return every, tensors, []
    if not asked.endswith('.'):
        named = [(target, layout) for target, layout in every if layout.name == asked]
        if not named:
            raise UsageError(
                f'unknown layout --from {asked}{did_you_mean(asked, layout_names())}; known: '
                f'{", ".join(layout_names())}; or the prefix of the backbone’s keys, with a dot '
                f'at its end')
        return named, tensors, []
    prefix = re.compile(WRAPPERS + re.escape(asked))
    inside = {key: value for key, value in tensors.items()
              if key.startswith(asked) or prefix.match(key)}
    if not inside:
        raise UsageError(f'no key of {path} begins with {asked}; they begin with '
                         f'{_starts(list(tensors))}')
    plain = {(target.name, id(layout.keys)): (target, replace(
        layout, name=f'keys after {asked}', origin='prefix given', method='unknown',
        prefix=re.escape(asked), others=r'(?!)', requires=''))
        for target, layout in every}
    outside = [key for key in tensors if key not in inside]
    whole = {key.removeprefix(asked) if key.startswith(asked) else
             key[prefix.match(key).end():]: value for key, value in inside.items()}
    return list(plain.values()), {asked + key: value for key, value in whole.items()}, outside


def _identify(target: TransferTarget, layout: CheckpointLayout, parts: Parts,
              fits: dict[str, Found]) -> None:
    """Enter the library's backbone that takes all of the weights into ``fits``, or set
    ``parts.reason``."""
    for own in target.layouts():
        neutral = own.read(parts.backbone)
        if neutral is None or (layout.families and own.family not in layout.families):
            continue
        known = fits.get(weights_hash(neutral))
        if known is not None:
            known.agreeing.append(layout.name)
            return
        try:
            cfg, state = own.backbone(own.family.shape(neutral)), own.write(neutral)
        except ODD_SHAPES:
            cfg = state = None
        if cfg is None or state is None:
            parts.reason = f'{target.name} builds no {own.family.name} of this depth and width'
            continue
        state = {key: value.float() if value.is_floating_point() else value
                 for key, value in state.items()}
        parts.reason = _try(build_stated(cfg, layout.name), state, layout)
        if not parts.reason:
            fits[weights_hash(neutral)] = Found(layout, cfg, state, parts.dropped, [layout.name])
            return
    parts.reason = parts.reason or (f'its {len(parts.backbone)} tensors are laid out as no '
                                    f'backbone that is known of {target.name}')


def _try(backbone: nn.Module, state: State, layout: CheckpointLayout) -> str:
    """Load ``state`` and run it on an image; return what is wrong with it. Old files lack the
    counters of BN batches, which nothing is computed with: they are added to ``state``."""
    owned = backbone.state_dict()
    state.update({key: value for key, value in owned.items()
                  if key.endswith('num_batches_tracked') and key not in state})
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        return f'{broken[0]} holds infinities or NaN'
    backbone.load_state_dict({key: value for key, value in state.items()
                              if key in owned and owned[key].shape == value.shape}, strict=False)
    keys = compare_keys(state, {'': backbone})
    if not keys.complete:
        return keys.summary()
    image = normalize(reference_image(), {'mean': layout.mean, 'std': layout.std,
                                          'channel_order': layout.channel_order})
    try:
        finite = all(torch.isfinite(map_).all() for map_ in feature_maps(backbone, image))
    except (AssertionError, RuntimeError, ValueError) as error:
        return f'it does not take an image: {error}'
    return '' if finite else 'it computes infinities or NaN on an image'


def _provenance(path: Path, found: Found, foreign: Foreign, lines: list[str]
                ) -> dict[str, Any]:
    layout = found.layout
    mean, std = foreign.mean or layout.mean, foreign.std or layout.std
    order = foreign.channel_order or layout.channel_order
    assumed = [name for name in ('mean', 'std', 'channel_order') if getattr(foreign, name) is None]
    lines.append(f'input: mean {_numbers(mean)}, std {_numbers(std)} of pixels 0 … 255, {order}'
                 + (f'; assumed: {", ".join(assumed)} (set them with --mean --std '
                    f'--channel-order)' if assumed else ''))
    return {'densessl': __version__, 'method': layout.method, 'backbone': found.backbone,
            'mean': list(mean), 'std': list(std), 'channel_order': order,
            'torch': str(torch.__version__),
            'imported': {'file': path.name, 'layout': found.agreeing, 'origin': layout.origin,
                         'file_sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
                         'dropped': len(found.dropped), 'assumed': assumed}}


def _why_not(path: Path, tensors: State, foreign: Foreign, near: list[tuple[int, str]]) -> str:
    if foreign.layout != AUTO:
        return f'{path} does not fit --from {foreign.layout}: {max(near)[1].partition(": ")[2]}'
    stems = image_inputs(tensors)
    several = (f'; it has {len(stems)} encoders ({", ".join(stems[:3])}): name the prefix of '
               f'one, such as --from {stems[0].rsplit(".", 2)[0]}.' if len(stems) > 1 else '')
    return (f'{path} has no layout that is known; its keys begin with {_starts(list(tensors))}; '
            f'closest to {max(near)[1]}{several}. Known are {", ".join(layout_names()[1:])}; or '
            f'give the prefix of the backbone’s keys to --from, with a dot at its end')


def _starts(keys: list[str]) -> str:
    """How keys begin, numbers and wrappers aside: at most four ways."""
    starts = list(dict.fromkeys(
        '.'.join(key[re.match(WRAPPERS, key).end():].split('.')[:2]) for key in keys))
    return escaped(', '.join(start[:100] for start in starts[:4])) + (
        ', …' if len(starts) > 4 else '')


def _numbers(values: tuple[float, ...]) -> str:
    return ' '.join(f'{value:g}' for value in values)
