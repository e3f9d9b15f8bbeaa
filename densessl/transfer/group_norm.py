"""ResNets whose norms are group or layer norms: how libraries name and configure them."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

GROUPS = {'layer': 1, 'group': 32}   # of a backbone's ``norm``; layer norm is one group
_NORM_NAME = re.compile(r'(^|\.)[bg]n([123])\.')


def has_group_norm(state: dict[str, Tensor]) -> bool:
    """Whether the norms of a plain ResNet keep no statistics: they are group or layer norms."""
    return not any(key.endswith('.running_mean') for key in state)


def with_norm_names(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """A plain ResNet's weights with its norms called ``name``, ``'bn'`` or ``'gn'``, and a number:
    some libraries name them after their kind, others call all of them ``bn``."""
    return {_NORM_NAME.sub(rf'\g<1>{name}\2.', key): value for key, value in state.items()}


def group_count(source: Mapping[str, Any]) -> int | None:
    """In how many groups the norms of a backbone normalize, by its config; None for batch norm or
    if that does not say."""
    return GROUPS.get(str(source.get('norm')), (source.get('norm_cfg') or {}).get('num_groups'))


def group_norm(groups: int) -> dict[str, Any]:
    """The ``norm_cfg`` of group norm; one group is layer norm over channels and pixels."""
    return {'type': 'GN', 'num_groups': groups, 'requires_grad': True}
