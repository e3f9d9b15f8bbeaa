"""Where the backbone is in somebody else's checkpoint.

A target lists the layouts whose backbone its library builds
(:meth:`densessl.transfer.target.TransferTarget.checkpoints`). A layout fits a checkpoint when every
tensor in it is accounted for: part of the backbone, or known to be something else. A near miss is
no fit, so nothing is guessed.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from densessl.pixels.normalization import IMAGENET_MEAN, IMAGENET_STD
from densessl.weights.key_layouts import Family
from densessl.weights.keymap import State

# What training scripts and wrappers put before the names of the model itself.
WRAPPERS = r'(?:(?:state_dict|model|model_state_dict|module|_orig_mod)\.)*'


class ToNeutral(Protocol):
    """What :class:`densessl.weights.keymap.KeyMap` does in this direction."""

    def to_neutral(self, state: State) -> State | None:
        """``state`` with other keys, or None if it has one that is not known."""


@dataclass(frozen=True)
class CheckpointLayout:
    """A kind of checkpoint that people have.

    Attributes:
        name: what ``export --from`` takes.
        origin: repositories whose code writes it.
        method: the pretraining method, if the layout tells.
        prefix: pattern of what stands before the backbone's keys, wrappers aside.
        others: pattern of keys that are not the backbone's: heads, queues, the second encoder.
            Matched at the beginning of the key, and before ``prefix``.
        heads: pattern of a whole key, after the prefix, that is a head.
        requires: pattern that some key must contain, to tell it from a similar layout.
        keys: from the checkpoint's keys, after the prefix, to the library's own; None if they are
            the same.
        families: the families it is for; all that the library has a layout of if empty.
        network: for networks outside the families: the library's backbone that weights in its
            keys are of, or None.
        mean, std, channel_order: of pixels 0 … 255, as its training code has them.
        image_size: pixels of the image that the weights are tried on.
    """

    name: str
    origin: str
    method: str = 'unknown'
    prefix: str = ''
    others: str = r'(?!)'
    heads: str = r'(?:fc|head|heads|classifier)\..+'
    requires: str = ''
    keys: ToNeutral | None = None
    families: tuple[Family, ...] = ()
    network: Callable[[State], dict[str, Any] | None] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channel_order: str = 'RGB'
    image_size: int = 224


@dataclass
class Parts:
    """A checkpoint's tensors, sorted by a layout.

    Attributes:
        backbone: with the library's own keys.
        dropped: keys of heads, queues and other encoders.
        reason: why the layout does not fit; empty if it does.
    """

    backbone: State = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    reason: str = ''


def tensors_of(content: Mapping[str, Any], path: str = '') -> State:
    """All tensors in nested dicts by their dotted path. An optimizer's are left out, as their
    paths have numbers for keys."""
    found: State = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            found[path + key] = value.detach()
        elif isinstance(key, str) and isinstance(value, Mapping):
            found.update(tensors_of(value, f'{path}{key}.'))
    return found


def sort_tensors(tensors: State, layout: CheckpointLayout) -> Parts:
    """Tell the backbone's tensors from the others; see :class:`Parts`."""
    parts, raw = Parts(), {}
    prefix, other_keys = (re.compile(f'{WRAPPERS}(?:{pattern})')
                      for pattern in (layout.prefix, layout.others))
    unknown = []
    for key, value in tensors.items():
        match = prefix.match(key)
        name = key[match.end():] if match else ''
        if other_keys.match(key) or (match and re.fullmatch(layout.heads, name)):
            parts.dropped.append(key)
        elif not match:
            unknown.append(key)
        elif name not in raw:
            raw[name] = value
        elif raw[name].shape != value.shape or not torch.equal(raw[name], value):
            parts.reason = f'two different encoders: {key} is there twice, with different values'
    if layout.requires and not any(re.search(layout.requires, key) for key in tensors):
        parts.reason = f'no key has {layout.requires!r}'
    if unknown:
        parts.reason = f'{len(unknown)} keys have no place in it ({unknown[0]}, …)'
    elif not raw:
        parts.reason = 'no key has its prefix'
    renamed = layout.keys.to_neutral(raw) if layout.keys else raw
    if renamed is None:
        parts.reason = parts.reason or 'the keys of its backbone have other names'
    parts.backbone = renamed or {}
    return parts


def image_inputs(tensors: State) -> list[str]:
    """Keys of the convolutions that take a color image: one for each encoder in a checkpoint."""
    return [key for key, value in tensors.items()
            if value.ndim == 4 and value.shape[1] == 3 and value.shape[0] > 3]
