"""ResNets whose norms are group or layer norms: how libraries name and configure them."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from densessl.weights.keymap import State

GROUPS = {'layer': 1, 'group': 32}   # of a backbone's ``norm``; layer norm is one group
_NORM_NAME = re.compile(r'(^|\.)[bg]n([123])\.')


def has_group_norm(state: State) -> bool:
    """Whether the norms of a plain ResNet keep no statistics: they are group or layer norms."""
    return not any(key.endswith('.running_mean') for key in state)


def with_norm_names(state: State, name: str) -> State:
    """A plain ResNet's weights with its norms called ``name``, ``'bn'`` or ``'gn'``, and a number:
    some libraries name them after their kind, others call all of them ``bn``."""
    return {_NORM_NAME.sub(rf'\g<1>{name}\2.', key): value for key, value in state.items()}


class NormsByKind:
    """The keys of a library that calls a ResNet's norms after their kind, ``bn1`` or ``gn1``; in
    the neutral layout all of them are ``bn``. For ``keys`` of a
    :class:`densessl.weights.key_layouts.Layout`."""

    def to_neutral(self, state: State) -> State:
        return with_norm_names(state, 'bn')

    def to_own(self, neutral: State) -> State:
        return with_norm_names(neutral, 'gn' if has_group_norm(neutral) else 'bn')


def group_count(source: Mapping[str, Any]) -> int | None:
    """In how many groups the norms of a backbone normalize, by its config; None for batch norm or
    if that does not say."""
    norm = source.get('norm_cfg')
    named = norm.get('num_groups') if isinstance(norm, Mapping) else None
    return GROUPS.get(str(source.get('norm')), named if type(named) is int else None)


def group_norm(groups: int) -> dict[str, Any]:
    """The ``norm_cfg`` of group norm; one group is layer norm over channels and pixels."""
    return {'type': 'GN', 'num_groups': groups, 'requires_grad': True}
