"""Overrides of a config by dotted key: applied, checked against the types that the parts have
*with* them, and reported where something else replaces them later."""
from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mmengine import Config
from mmengine.registry import Registry

from densessl.bounds import TypeName, allows
from densessl.errors import UsageError, check_keys, did_you_mean, shown

# parts whose type may be left out, and what they take besides the arguments of their class
DEFAULT_TYPES = {'optim_wrapper': 'OptimWrapper'}
BESIDES = {'optim_wrapper': ('constructor', 'paramwise_cfg')}
OPEN = ('optim_wrapper.clip_grad', 'optim_wrapper.paramwise_cfg')   # checked with the wrapper
EVERYWHERE = ('type', '_scope_', '_delete_')
ArgumentsOf = Callable[[str, str], 'set[str] | None']    # (dotted key of a part, its type)


def apply_overrides(cfg: Config, options: Mapping[str, Any]) -> None:
    """Put overrides into ``cfg``, in their order.

    Raises:
        UsageError: a key that is not there and that no part with a type could take, or a value in
            the place of another kind of thing.
    """
    made = set(OPEN)
    for key, value in options.items():
        if key.partition('.')[0] == 'custom_imports':
            raise UsageError('--cfg-options custom_imports: modules are imported when the config '
                             'file is read; name them in a config file that inherits this one')
        if key.startswith('_'):
            raise UsageError(f'--cfg-options {key}: nothing reads {key.partition(".")[0]!r} after '
                             f'the config file has been read; override what is made of it')
        made.add(_make_room(cfg, key, isinstance(value, Mapping), made))
        try:
            cfg.merge_from_dict({key: copy.deepcopy(value)})
        except AttributeError as error:
            raise UsageError(f'--cfg-options {key}: keys must be text, and in {shown(value)} one '
                             f'is not') from error
        except (TypeError, KeyError, IndexError) as error:  # a dict in place of a plain value
            raise UsageError(f'--cfg-options {key}: {shown(value)} cannot take the place of what '
                             f'the config has there') from error


def apply_row(cfg: Config, where: str, row: Mapping[Any, Any]) -> None:
    """Put a row of a config's own tables, such as its recipe's, into it.

    Args:
        where: its dotted key, for messages. row: values by dotted key.

    Raises:
        UsageError: a key that leads into something that has no keys. One that is unknown is put in,
            as everywhere in configs, for the check of the config to name.
    """
    for key, value in row.items():
        try:
            cfg.merge_from_dict({key: copy.deepcopy(value)})
        except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
            raise UsageError(f'{where}: {shown(key)} leads to nothing in the config, or to '
                             f'something that {shown(value)} cannot take the place of') from error


def settle_types(cfg: Config, published: Config, options: Mapping[str, Any],
                 arguments_of: ArgumentsOf) -> list[str]:
    """Hold overrides against the types that the parts of ``cfg`` now have. What a part had for the
    type that an override replaced, and the new one does not take, is left out.

    Args:
        cfg: the config with overrides, changed in place; published: without.
        arguments_of: what the type of a part takes; None if that is not known, or is anything.

    Returns:
        What was left out, a line each.

    Raises:
        UsageError: an override that no argument of its part's type takes; the message names the
            closest.
    """
    lines = []
    given = dict(leaves(options))
    for path, node in list(dicts_within(cfg)):
        kind, known = _type_of(path, node), None
        if isinstance(kind, str) and _is_touched(path, given):
            known = arguments_of(path, kind)
        if known is None:
            continue
        known = {*known, *EVERYWHERE, *BESIDES.get(path, ())}
        was = at(published, path)
        same = isinstance(was, Mapping) and _type_of(path, was) == kind
        for name in [name for name in node if name not in known]:
            dotted = f'{path}.{name}'
            if _is_touched(dotted, given) and not (same and name in was):
                check_keys(f'{path} ({kind})', [name], known)
            if not same:
                lines.append(f'{dotted}={shown(node[name])} is left out: {kind} does not take it')
                del node[name]
    return lines


def replaced_overrides(cfg: Config, options: Mapping[str, Any]) -> list[str]:
    """A line for each override in whose place ``cfg`` has something else by now."""
    lines = []
    for key, value in leaves(options):
        now = at(cfg, key)
        if _plain(now) != _plain(value):
            lines.append(f'{key}={shown(value)} of --cfg-options has no effect: '
                         f'{shown(now)} takes its place, by the data or the recipe')
    return lines


def check_reach(key: str, published: Config) -> None:
    """Refuse to override a name of the config file that was put in its places when it was read.

    Raises:
        UsageError: nothing reads the key any more; the message names what to override instead.
    """
    name = key.partition('.')[0]
    if name in runner_keys() or not published.get(name):
        return
    place = _place_of(published[name], {key: value for key, value in published.items()
                                        if key in runner_keys()})
    if place:
        raise UsageError(f'--cfg-options {key}: nothing reads {name!r} after the config file has '
                         f'been read; give {place}{key.removeprefix(name)} instead (and wherever '
                         f'else it is)')


def leaves(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Overrides key by key, including those given as dicts."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            for inner, one in leaves(value):
                if inner != '_delete_':
                    yield f'{key}.{inner}', one
        else:
            yield key, value


def at(node: Any, key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for part in key.split('.'):
        if isinstance(node, (Mapping, Config)):
            node = node.get(part)
        elif isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def class_named(registry: Registry, name: Any) -> type | None:
    """The class that ``registry`` has under a name; None if there is none, or nothing can
    have that name."""
    try:
        found = registry.get(name) if allows(TypeName, name) else None
    except (ImportError, RuntimeError, ValueError):     # a name that leads nowhere
        found = None
    return found if isinstance(found, type) else None


def items_of(node: Any) -> list[tuple[Any, Any]]:
    """What a part of a config holds, by key or by number; nothing if it is a plain value."""
    if isinstance(node, (Mapping, Config)):
        return list(node.items())
    return list(enumerate(node)) if isinstance(node, (list, tuple)) else []


def runner_keys() -> set[str]:
    """Top-level keys that mmengine's Runner reads whether or not a config sets them."""
    from mmengine.runner import Runner
    attributes = {'sync_bn', 'find_unused_parameters', 'compile', 'activation_checkpointing'}
    return attributes | set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}


def _place_of(value: Any, node: Any) -> str | None:
    """The dotted key of the first part of ``node`` that equals ``value``."""
    for key, child in items_of(node):
        if type(child) is type(value) and child == value:
            return str(key)
        if found := _place_of(value, child):
            return f'{key}.{found}'
    return None


def _make_room(cfg: Config, key: str, is_dict: bool, made: Collection[str]) -> str:
    """An override must name a key that is there, or one that a part with a type may take. A part
    that is None or off is replaced by its keys.

    Args:
        made: dotted keys of parts that overrides make, whose keys nothing here knows.

    Returns:
        The dotted key of what the override makes, or sets.
    """
    parts = key.split('.')
    node: Any = cfg
    for depth, part in enumerate(parts):
        where, last = '.'.join(parts[:depth]), depth == len(parts) - 1
        if isinstance(node, (list, tuple)):
            if not (part.isdigit() and int(part) < len(node)):
                raise UsageError(f'--cfg-options {key}: {where} has no item {part!r}')
            node = node[int(part)]
            if last and isinstance(node, Mapping) and not is_dict:
                raise UsageError(f'--cfg-options {key}: it must be a section of keys')
            continue
        if not isinstance(node, (Mapping, Config)):
            raise UsageError(f'--cfg-options {key}: {where} has no item {part!r}')
        known = set(node.keys()) | (runner_keys() if not depth else set())
        is_open = (where in DEFAULT_TYPES or {'type', '_delete_'} & set(node.keys())
                   or any(f'{where}.'.startswith(f'{one}.') for one in made))
        if part not in known and not is_open:
            raise UsageError(f'--cfg-options {key}: no key {part!r} in {where or "the config"}'
                             f'{did_you_mean(part, known)}; known: '
                             f'{", ".join(sorted(known)) or "none"}')
        child = node.get(part)
        if child is None or isinstance(child, bool):
            if part in node.keys() and (is_dict or not last):
                del node[part]
            return '.'.join(parts[:depth + 1])
        node = child
    return key


def _is_touched(path: str, given: Mapping[str, Any]) -> bool:
    """Whether an override is at ``path`` or below it."""
    return any(f'{key}.'.startswith(f'{path}.') for key in given)


def _type_of(path: str, node: Mapping[str, Any]) -> Any:
    return node.get('type', DEFAULT_TYPES.get(path))


def dicts_within(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every dict within a config and its dotted key, outermost first."""
    for key, value in items_of(node):
        inner = f'{path}.{key}' if path else str(key)
        if isinstance(value, Mapping):
            yield inner, value
        yield from dicts_within(value, inner)


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
