"""An override that adds a key to a part of a config is checked against what that part is."""
from __future__ import annotations

from typing import Any

from mmengine import Config, registry

from densessl.config import check_keys
from densessl.transfer.recipe import parameters_of

_REGISTRIES = ('MODELS', 'DATASETS', 'TRANSFORMS', 'LOOPS', 'HOOKS', 'OPTIMIZERS', 'OPTIM_WRAPPERS',
               'PARAM_SCHEDULERS', 'DATA_SAMPLERS', 'METRICS', 'VISUALIZERS', 'LOG_PROCESSORS')


def check_options(published: Config, options: dict[str, Any]) -> None:
    """Refuse overrides that no argument of the class they belong to takes.

    Args:
        published: the config without overrides; its library has been imported.
        options: overrides by dotted key.

    Raises:
        UsageError: such an override; the message names close arguments.
    """
    for key in options:
        *parents, last = key.split('.')
        node: Any = published
        for part in parents:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node.get(part, {})
        if not hasattr(node, 'get') or last in node or not isinstance(node.get('type'), str):
            continue
        known = _arguments(node['type'], published.default_scope)
        if known:
            check_keys(f'{".".join(parents)} ({node["type"]})', [last], {*known, *node})


def _arguments(kind: str, scope: str) -> set[str]:
    """The arguments of the class registered as ``kind``; empty if it is not found or takes any."""
    for name in _REGISTRIES:
        cls = getattr(registry, name).get(kind if '.' in kind else f'{scope}.{kind}')
        if isinstance(cls, type):
            parameters = parameters_of(cls)
            return set() if parameters.pop('**', None) else set(parameters) - {'self'}
    return set()
