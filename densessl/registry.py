"""The three registries. What is in them comes from plugins alone (:mod:`densessl.plugins`).

They stand alone: none has a parent among mmengine's, and no name in them is looked for elsewhere.
"""
from __future__ import annotations

from typing import Any

from mmengine.registry import Registry

from densessl.bounds import check_values
from densessl.errors import UsageError, check_arguments, did_you_mean


class PluginRegistry(Registry):
    """A registry whose entries are supplied by plugins; loads them on the first question."""

    def get(self, key: str) -> Any:
        """Return the class registered under ``key``.

        Raises:
            UsageError: unknown name; the message lists the known ones and every broken plugin.
        """
        from densessl.plugins import broken_plugins, load_plugins
        load_plugins()
        if isinstance(key, str) and '.' not in key and key not in self.module_dict:
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
        if cls not in self.module_dict.values():     # named by its module: mmengine knows how
            return super().build(cfg, *args, **kwargs)
        given = {key: value for key, value in {**kwargs.get('default_args', {}), **cfg}.items()
                 if key not in ('type', '_scope_')}
        check_arguments(cls, given, f'{self.name} {name!r}')
        check_values(cls, given, f'{self.name} {name!r}: ')
        return cls(**given)   # not by mmengine, whose default scope is that of the last run

    def _unknown(self, key: str, broken: list[Any]) -> str:
        known = sorted(self.module_dict)
        message = (f'unknown {self.name} {key!r}{did_you_mean(key, known)}; known: '
                   f'{", ".join(known) or "none"}. Others come from plugins: '
                   f'"pip install" the package that provides it')
        for plugin in broken:
            message += f'; plugin {plugin.label} is broken: {plugin.reason}'
        return message


METHODS = PluginRegistry('method', scope='densessl')
MASK_GENERATORS = PluginRegistry('mask generator', scope='densessl')
TRANSFER_TARGETS = PluginRegistry('transfer target', scope='densessl')
