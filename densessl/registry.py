"""The three registries. What is in them comes from plugins alone (:mod:`densessl.plugins`).

``METHODS`` is the ``densessl``-scoped child of mmengine's ``MODELS``, because mmengine's Runner
builds the model and its data preprocessor through ``MODELS``; the other two stand alone.
mmengine imports this module by its name when it meets the scope ``densessl``.
"""
from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS, Registry

from densessl.bounds import check_values
from densessl.errors import UsageError, check_arguments, did_you_mean


class PluginRegistry(Registry):
    """A registry whose entries are supplied by plugins; loads them on the first question."""

    def get(self, key: str) -> Any:
        """Return the class registered under ``key`` (or, for METHODS, under one of its parents).

        Raises:
            UsageError: unknown name; the message lists the known ones and every broken plugin.
        """
        from densessl.plugins import broken_plugins, load_plugins
        load_plugins()
        if isinstance(key, str) and '.' not in key:
            registries = [self] + ([self.parent] if self.parent else [])
            if not any(key in registry.module_dict for registry in registries):
                raise UsageError(self._unknown(key, broken_plugins()))
        return super().get(key)

    def build(self, cfg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build the class ``cfg['type']`` with the rest of ``cfg`` as its arguments.

        Raises:
            UsageError: unknown name, arguments that the class does not take, or values that
                their annotations do not allow (:mod:`densessl.bounds`).
        """
        name = cfg.get('type') if isinstance(cfg, dict) else None
        cls = self.get(name) if isinstance(name, str) else name
        if cls not in self.module_dict.values():     # a parent's: mmengine knows how
            return super().build(cfg, *args, **kwargs)
        given = {key: value for key, value in {**kwargs.get('default_args', {}), **cfg}.items()
                 if key not in ('type', '_scope_')}
        check_arguments(cls, given, f'{self.name} {name!r}')
        check_values(cls, given, f'{self.name} {name!r}: ')
        return cls(**given)   # not by mmengine, whose default scope is that of the last run

    def _unknown(self, key: str, broken: list[Any]) -> str:
        known = sorted(name for name in self.module_dict if name.islower())
        message = (f'unknown {self.name} {key!r}{did_you_mean(key, known)}; known: '
                   f'{", ".join(known) or "none"}. Others come from plugins: '
                   f'"pip install" the package that provides it')
        for plugin in broken:
            message += f'; plugin {plugin.label} is broken: {plugin.reason}'
        return message


METHODS = PluginRegistry('method', parent=MODELS, scope='densessl')
MASK_GENERATORS = PluginRegistry('mask generator', scope='densessl')
TRANSFER_TARGETS = PluginRegistry('transfer target', scope='densessl')
