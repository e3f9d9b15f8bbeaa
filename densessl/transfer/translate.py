"""Weights from one library's keys to another's, by what both say of a family of networks."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densessl.backbones import target_names
from densessl.errors import UsageError
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.target import TransferTarget
from densessl.weights.families import with_groups
from densessl.weights.key_layouts import RESNET, Family, Layout
from densessl.weights.keymap import State


def translate(target: TransferTarget, state: State, source: str) -> State:
    """Rename ``state`` to the keys of ``target`` (and reorder values where it must be).

    Args:
        state: a backbone's state dict in the layout of ``source``.
        source: the backbone's ``'TARGET.name'``.

    Raises:
        UsageError: no exact translation is known; the message says from what there is one.
    """
    if source.partition('.')[0] == target.name:
        return dict(state)
    layouts = target.layouts()
    found = neutral_weights(state, source)
    for layout in layouts:
        if found and layout.family is found[0]:
            translated = layout.write(found[1])
            # Weights for a network that the library cannot build could never be checked.
            if translated is not None and layout.backbone(
                    layout.family.shape(found[1])) is not None:
                return translated
    families = dict.fromkeys(layout.family.name for layout in layouts)
    raise UsageError(
        f'no exact translation of {source!r} to {target.name} is known'
        + (f': {target.name} builds no {found[0].name} of this kind, and with such weights its '
           f'others would compute something else' if found else '')
        + f'; possible are {target.name} backbones'
        + (f' and, from any library, {", ".join(families)}' if families else ''))


def counterpart(target: TransferTarget, state: State, source: Mapping[str, Any]
                ) -> dict[str, Any] | None:
    """The backbone of ``target`` that a translated ``state`` belongs to, so that an export can be
    checked on it: ``dict(type='name.resnet50', …)``, or None if it cannot be told.

    Args:
        state: the state dict, translated.
        source: the configuration of the pretrained backbone (``dict(type='TARGET.name', …)``).
    """
    if source['type'].partition('.')[0] == target.name:
        return dict(source)
    stride = source.get('output_stride')    # weights do not tell it
    for layout in target.layouts():
        neutral = layout.read(state)
        if neutral is not None:
            shape = with_groups(layout.family.shape(neutral), source)
            found = None if shape is None else layout.backbone(shape)
            if found and stride is not None and 'output_stride' in target.backbone_arguments(
                    found['type'].partition('.')[2], found):
                return {**found, 'output_stride': stride}
            return found
    return None


def neutral_weights(state: State, source: str) -> tuple[Family, State] | None:
    """The family of a backbone's weights and their neutral keys; None if no layout is known.

    Args:
        state: a backbone's state dict in the layout of ``source``.
        source: the backbone's ``'TARGET.name'``.
    """
    library = source.partition('.')[0]
    layouts = TRANSFER_TARGETS.get(library)().layouts() if library in target_names() else []
    for layout in [*layouts, Layout(RESNET)]:
        neutral = layout.read(state)
        if neutral is not None:
            return layout.family, neutral
    return None
