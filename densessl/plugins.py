"""Discovery of plugins: one explicit, validated call finds first-party and third-party alike, and
enters what they provide into three registries.

Every entry point of the group ``densessl`` names a plugin's manifest, a module with ``hookimpl``s
(see :mod:`densessl.hookspecs`). A plugin that cannot be used is kept in a list with its
distribution and the reason, reported once, and brought up again by any error that it may explain.
``DENSESSL_DISABLE_PLUGINS=name,name`` leaves plugins out by entry-point name.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isclass
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import pluggy
from mmengine.registry import Registry

from densessl import hookspecs
from densessl.bounds import allows, check_values, words
from densessl.environment import building
from densessl.errors import UsageError, check_arguments, did_you_mean, escaped, path_of, shown

DISABLE = 'DENSESSL_DISABLE_PLUGINS'
# The base class of what a hook returns, by name: a hook that returns a subclass has imported it.
CONTRACTS = {'methods': 'densessl.method.Method',
             'mask_generators': 'densessl.masks.generator.MaskGenerator',
             'transfer_targets': 'densessl.transfer.target.TransferTarget'}
HOOKS = (*CONTRACTS, 'config_folders')


@dataclass
class Plugin:
    """One entry point: where it is from, what it provides, and why it is broken if it is."""

    name: str
    distribution: str
    version: str
    module: Any = None
    provides: dict[str, list[Any]] = field(default_factory=dict)   # hook name -> classes or paths
    reason: str = ''                                               # why it cannot be used
    disabled: bool = False

    @property
    def label(self) -> str:
        return f'{self.name!r} ({self.distribution} {self.version})'


class BrokenPlugin(Exception):
    """Why a plugin cannot be used."""


@cache
def load_plugins() -> list[Plugin]:
    """Find, validate and register every installed plugin; later calls return the same list.

    Returns:
        All plugins, first-party first; the broken and the disabled are among them.
    """
    disabled = {name.strip() for name in os.environ.get(DISABLE, '').split(',') if name.strip()}
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = []
    for entry in sorted(set(entry_points(group=hookspecs.GROUP)), key=_first_party_first):
        dist = entry.dist
        plugin = Plugin(entry.name, (dist and dist.name) or '?', (dist and dist.version) or '?',
                        disabled=entry.name in disabled)
        if not plugin.disabled:
            try:
                _check_name(plugin, plugins)
                plugin.module = _attempt(f'importing {entry.value!r}', entry.load)
                plugin.provides = _ask(manager, plugin)
                _register(plugin)
            except BrokenPlugin as error:
                plugin.provides, plugin.reason = {}, str(error)
                print(f'densessl: plugin {plugin.label} is broken and left out: {error}',
                      file=sys.stderr)
        plugins.append(plugin)
    for name in sorted(disabled - {plugin.name for plugin in plugins}):
        print(f'densessl: {DISABLE} names {name!r}, which is not installed'
              f'{did_you_mean(name, [plugin.name for plugin in plugins])}', file=sys.stderr)
    return plugins


def broken_plugins() -> list[Plugin]:
    """The installed plugins that cannot be used; each ``reason`` says why."""
    return [plugin for plugin in load_plugins() if plugin.reason]


def _first_party_first(entry: EntryPoint) -> tuple[bool, str, str]:
    dist = (entry.dist and entry.dist.name) or ''
    return dist != 'densessl', dist, entry.name


def _check_name(plugin: Plugin, earlier: list[Plugin]) -> None:
    for other in earlier:
        if other.name == plugin.name:
            raise BrokenPlugin(f'the name {plugin.name!r} is taken by {other.label}; '
                               f'uninstall one of the two')


def _attempt(what: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:    # whatever a plugin's code raises is its fault
        line = ' '.join(f'{what} failed: {type(error).__name__}: {error}'.split())
        raise BrokenPlugin(escaped(line)) from error


def _ask(manager: pluggy.PluginManager, plugin: Plugin) -> dict[str, list[Any]]:
    """Call the plugin's hooks; return what it provides, by hook name."""
    _attempt('reading its hooks', lambda: manager.register(plugin.module, plugin.name))
    provides = {}
    for caller in manager.get_hookcallers(plugin.module) or ():
        if not caller.has_spec():
            manager.unregister(plugin.module)
            raise BrokenPlugin(f'unknown hook {caller.name!r}{did_you_mean(caller.name, HOOKS)}; '
                               f'hooks are: {", ".join(HOOKS)}')
        hook = next(impl for impl in caller.get_hookimpls() if impl.plugin is plugin.module)
        provides[caller.name] = _call(caller.name, hook.function)
    if not provides:
        raise BrokenPlugin(f'it implements none of the hooks {", ".join(HOOKS)}: '
                           f'are its functions decorated with densessl.hookimpl?')
    return provides


def _call(hook: str, function: Callable[[], list[Any]]) -> list[Any]:
    things = _attempt(f'hook {hook!r}', function)
    if not isinstance(things, list):
        raise BrokenPlugin(f'hook {hook!r} must return a list, not {type(things).__name__}')
    for thing in things:
        if hook == 'config_folders':
            if not isinstance(thing, Path) or not os.path.isdir(thing):
                raise BrokenPlugin(f'hook {hook!r} must return folders as Path, not {thing!r}')
            continue
        contract = _contract_of(thing, hook)
        if contract is None:
            raise BrokenPlugin(f'hook {hook!r} must return subclasses of densessl.'
                               f'{CONTRACTS[hook].rpartition(".")[2]}, not {thing!r}')
        for key, kind in get_type_hints(contract, include_extras=True).items():
            if get_origin(kind) is ClassVar and not allows(*get_args(kind), getattr(thing, key)):
                raise BrokenPlugin(f'{path_of(thing)}.{key} must be {words(*get_args(kind))}, not '
                                   f'{shown(getattr(thing, key))}')
        if hook == 'transfer_targets':      # made anew for each question
            _attempt(f'{path_of(thing)}()', thing)
    return things


def _contract_of(thing: Any, hook: str) -> type | None:
    """The base class of ``thing`` that the hook asks for; None if it has not got it."""
    return next((base for base in (thing.__mro__ if isclass(thing) else ())
                 if path_of(base) == CONTRACTS[hook]), None)


def _register(plugin: Plugin) -> None:
    """Enter the plugin's classes into the registries: all of them or, on a clash, none."""
    registries = {'methods': METHODS, 'mask_generators': MASK_GENERATORS,
                  'transfer_targets': TRANSFER_TARGETS}
    entries = [(registries[hook], name_of(cls), cls) for hook, classes in plugin.provides.items()
               if hook in registries for cls in classes]
    seen = set()
    for where, name, _ in entries:
        if name in where.module_dict or (where.name, name) in seen:
            owner = where.module_dict.get(name)
            raise BrokenPlugin(f'the {where.name} {name!r} is already provided by '
                               f'{owner.__module__ if owner else "the same plugin"}')
        seen.add((where.name, name))
    for where, name, cls in entries:
        where.register_module(name=name, module=cls)


def name_of(cls: type) -> str:
    """The name under which a class is registered: its own ``name``, else the class's name."""
    return getattr(cls, 'name', None) or cls.__name__


class PluginRegistry(Registry):
    """A registry whose entries are supplied by plugins; loads them on the first question."""

    def get(self, key: str) -> Any:
        """Return the class registered under ``key``, or one of the same kind by its module.

        Raises:
            UsageError: unknown name; the message lists the known ones and every broken plugin.
        """
        load_plugins()
        found = self.module_dict.get(key)
        if found is None and '.' in key:    # a class by its module
            with suppress(Exception):       # which leads nowhere
                found = super().get(key)
        if _contract_of(found, f'{self.name.replace(" ", "_")}s') is None:
            known = sorted(self.module_dict)
            broken = ''.join(f'; plugin {plugin.label} is broken: {plugin.reason}'
                             for plugin in broken_plugins())
            raise UsageError(f'unknown {self.name} {key!r}{did_you_mean(key, known)}; known: '
                             f'{", ".join(known) or "none"}. Others come from plugins: '
                             f'"pip install" the package that provides it{broken}')
        return found

    def build(self, cfg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build the class ``cfg['type']`` with the rest of ``cfg`` as its arguments.

        Raises:
            UsageError: unknown name, arguments that the class does not take, values that their
                annotations do not allow (:mod:`densessl.bounds`), or the class raises an error.
        """
        name = cfg.get('type') if isinstance(cfg, dict) else None
        cls = self.get(name) if isinstance(name, str) else name
        if not isclass(cls):    # mmengine says what is wrong
            return super().build(cfg, *args, **kwargs)
        given = {key: value for key, value in {**kwargs.get('default_args', {}), **cfg}.items()
                 if key not in ('type', '_scope_')}
        check_arguments(cls, given, f'{self.name} {name!r}')
        check_values(cls, given, f'{self.name} {name!r}: ')
        with building(f'{self.name} {name!r} ({path_of(cls)})', of=''):
            built = cls(**given)   # not by mmengine, whose default scope is that of the last run
        if self is METHODS and not hasattr(getattr(built, 'backbone', None), 'parameters'):
            raise UsageError(f'method {name!r}: {path_of(cls)} must set self.backbone, a network: '
                             f'what is kept')
        return built


# None has a parent among mmengine's: no name in them is looked for elsewhere.
METHODS = PluginRegistry('method', scope='densessl')
MASK_GENERATORS = PluginRegistry('mask generator', scope='densessl')
TRANSFER_TARGETS = PluginRegistry('transfer target', scope='densessl')
