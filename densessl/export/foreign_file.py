"""What is common to all imports of other people's weights: what the user says of them, opening the
file, trying the weights on the network they are for, and provenance."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from densessl import __version__
from densessl.backbones import feature_maps, spelled
from densessl.engine.checkpoint_file import has_checksum
from densessl.engine.finite import first_not_finite
from densessl.errors import UsageError, escaped, shown
from densessl.export.recorded_input import recorded_input
from densessl.pixels.normalization import normalize
from densessl.transfer.foreign_checkpoints import WRAPPERS, CheckpointLayout, tensors_of
from densessl.transfer.handoff import KeyTable, compare_keys, reference_image
from densessl.weights.backbone_file import is_own, load_foreign
from densessl.weights.keymap import State
from densessl.weights.lineage import file_hash
from densessl.weights.provenance import check_provenance
from densessl.weights.stated_backbone import RefusedFact

AUTO = 'auto'


@dataclass(frozen=True)
class Foreign:
    """What the user says of a foreign checkpoint.

    Attributes:
        layout: ``'auto'``, the name of a layout, or the prefix of the backbone's keys with its
            dot at the end.
        network: ``dict(type='TARGET.name', …)``, the network that it is
            (:mod:`densessl.export.named_network`); told by its shapes if None.
        mean, std: of the pixels 0 … 255, three each; the layout's own if None.
        channel_order: ``'RGB'`` or ``'BGR'``; the layout's own if None.
    """

    layout: str = AUTO
    network: dict[str, Any] | None = None
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
    """A layout that is tried, the backbone it is and its weights in its library's keys."""

    layout: CheckpointLayout
    backbone: dict[str, Any]
    state: State
    dropped: list[str]
    agreeing: list[str]   # names of all the layouts that find these very weights
    keys: KeyTable = field(default_factory=KeyTable)
    reason: str = ''      # why it does not fit; empty if it does

    def try_on(self, network: nn.Module) -> None:
        """Load the weights in float32 into ``network`` and run it on an image; note where each key
        is and what is wrong, if anything. Old files lack the counters of BN batches, which nothing
        is computed with: they are added."""
        owned = network.state_dict()
        state = self.state = {key: value.float() if value.is_floating_point() else value
                              for key, value in self.state.items()}
        state.update({key: value for key, value in owned.items()
                      if key.endswith('num_batches_tracked') and key not in state
                      and key.replace('num_batches_tracked', 'running_mean') in state})
        network.load_state_dict({key: value for key, value in state.items()
                                 if key in owned and owned[key].shape == value.shape}, strict=False)
        self.keys = compare_keys(state, {'': network})
        broken = first_not_finite(state)
        self.reason = (f'{broken} holds infinities or NaN' if broken is not None else
                       self.keys.summary() if not self.keys.complete else
                       _fault_on_an_image(network, self.layout))


def foreign_tensors(path: Path, foreign: Foreign) -> tuple[State, bool, Foreign, list[str]]:
    """All tensors of a foreign checkpoint; whether there were Python objects beside them;
    ``foreign``, completed by what the file says of its input
    (:func:`~densessl.export.recorded_input.recorded_input`) where the user said nothing; and the
    names of what was completed.

    Raises:
        UsageError: not readable without running code, written by densessl, or without tensors.
    """
    content, shells = load_foreign(path)
    if is_own(content):
        raise UsageError(f'{path} was written by densessl; leave out --from')
    tensors = tensors_of(content)
    if not tensors:
        raise UsageError(f'{path} holds no named tensors' + (
            ', but Python objects: if one is the model, save model.state_dict() instead'
            if shells else ''))
    taken = {name: value for name, value in recorded_input(content, tensors).items()
             if getattr(foreign, name) is None}
    return tensors, shells, replace(foreign, **taken), list(taken)


def _fault_on_an_image(network: nn.Module, layout: CheckpointLayout) -> str:
    """What goes wrong when ``network`` is run on an image as ``layout`` has it; empty if nothing
    does."""
    image = normalize(reference_image(layout.image_size), {
        'mean': layout.mean, 'std': layout.std, 'channel_order': layout.channel_order})[None]
    try:
        maps = feature_maps(network, image)
    except (AssertionError, RuntimeError, ValueError) as error:
        return (f'it does not take an image of {layout.image_size}×{layout.image_size} pixels: '
                f'{str(error).strip().splitlines()[-1]}')
    finite = all(torch.isfinite(map_).all() for map_ in maps)
    return '' if finite else 'it computes infinities or NaN on an image'


def account(path: Path, fits: Mapping[str, Found], left_out: Sequence[str], foreign: Foreign,
            shells: bool, recorded: Sequence[str]
            ) -> tuple[State, dict[str, Any], list[str], KeyTable]:
    """What was found: its weights, their provenance, the lines about them and the table of keys.

    Args:
        fits: what was found, by the weights.
        left_out: keys that no layout was tried on.
        recorded: what of ``foreign`` the file itself says.

    Raises:
        UsageError: different weights were found, or what the user or the file says of them cannot
            be recorded.
    """
    if len(fits) > 1:
        names = ', '.join(found.layout.name for found in fits.values())
        raise UsageError(f'{path} can be read in different ways: {names}; say which with --from')
    found, = fits.values()
    layout, dropped = found.layout, [*found.dropped, *left_out]
    mean, std = foreign.mean or layout.mean, foreign.std or layout.std
    order = foreign.channel_order or layout.channel_order
    assumed = [name for name in ('mean', 'std', 'channel_order') if getattr(foreign, name) is None]
    lines = [f'{"built" if foreign.network else "detected"}: {" or ".join(found.agreeing)} '
             f'({layout.origin}): {spelled(found.backbone)}, {len(found.state)} tensors']
    if dropped:
        lines.append(f'dropped: {len(dropped)} tensors that are not the backbone’s '
                     f'({starts_of(dropped)})')
    if not has_checksum(path):
        lines.append('checksum: the file carries none, so damage to it would not be noticed')
    if shells:
        lines.append('left aside: Python objects beside the weights; nothing of them was run')
    lines.append(f'input: mean {_numbers(mean)}, std {_numbers(std)} of pixels 0 … 255, {order}'
                 + (f'; assumed: {", ".join(assumed)} (set them with --mean --std '
                    f'--channel-order)' if assumed else ''))
    imported = {'file': path.name, 'layout': found.agreeing, 'origin': layout.origin,
                'file_sha256': file_hash(path), 'dropped': len(dropped), 'assumed': assumed}
    if recorded:
        lines.append(f'read from the file: {", ".join(recorded)}')
        imported['recorded'] = list(recorded)
    meta = {'densessl': __version__, 'method': layout.method, 'backbone': found.backbone,
            'mean': list(mean), 'std': list(std), 'channel_order': order,
            'torch': str(torch.__version__), 'imported': imported}
    try:
        check_provenance(meta, path)
    except RefusedFact as error:    # what is written now would be refused when it is read
        raise UsageError(f'{path}: {error.key} = {shown(error.value)} cannot be recorded with the '
                         f'weights: it must be {error.wanted}') from error
    return found.state, meta, lines, found.keys


def starts_of(keys: list[str]) -> str:
    """How keys begin, wrappers and the tensors' own names aside: at most four ways."""
    starts = list(dict.fromkeys(
        '.'.join((path[:-1] or path)[:2])
        for path in (key[re.match(WRAPPERS, key).end():].split('.') for key in keys)))
    return escaped(', '.join(start[:100] for start in starts[:4])) + (
        ', …' if len(starts) > 4 else '')


def _numbers(values: tuple[float, ...]) -> str:
    return ' '.join(f'{value:g}' for value in values)
