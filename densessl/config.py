"""Find a config by path or by name, apply overrides, refuse unknown keys."""
from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.config.utils import MODULE2PACKAGE

from densessl.errors import UsageError, did_you_mean
from densessl.plugins import load_plugins


def config_folders() -> list[Path]:
    """Folders searched by name: densessl's own configs, then those of plugins."""
    own = find_spec('densessl_configs')
    folders = [Path(folder) for folder in own.submodule_search_locations] if own else []
    return folders + [folder for plugin in load_plugins()
                      for folder in plugin.provides.get('config_folders', [])]


def find_config(name: str) -> Path:
    """The config file for a path, or for a name such as ``demo/detcon_r18``.

    Raises:
        UsageError: there is none; the message lists close names.
    """
    if Path(name).is_file():
        return Path(name)
    wanted = name.removesuffix('.py').removeprefix('configs/')
    for folder in config_folders():
        if (folder / f'{wanted}.py').is_file():
            return folder / f'{wanted}.py'
    known = sorted(str(path.relative_to(folder).with_suffix('')) for folder in config_folders()
                   for path in folder.rglob('*.py') if not path.name.startswith('_'))
    known = [name for name in known if not name.startswith('_')]
    raise UsageError(f'no config {name!r}: neither a file nor a known name'
                     f'{did_you_mean(wanted, known)}; known: {", ".join(known)}')


def load_config(name: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config by path or name and apply overrides.

    Args:
        options: overrides by dotted key (``{'schedule.base_lr': 0.1}``).

    Raises:
        UsageError: no such config, a config that cannot be read, or an override of a key that
            does not exist.
    """
    path = find_config(name)
    _know_packages()
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:   # a config is code: whatever it raises, its user needs the line
        raise UsageError(f'config {path} cannot be read: {type(error).__name__}: {error}'
                         ) from error
    for key, value in (options or {}).items():
        _check_override(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except TypeError as error:      # a dict in the place of a plain value
            raise UsageError(f'--cfg-options {key}: {value!r} cannot take the place of what the '
                             f'config has there') from error
    return cfg


def _know_packages() -> None:
    """Tell mmengine how the packages are called whose configs a downstream config inherits: it
    would say of installed ones that they are not."""
    from densessl.backbones import target_names
    from densessl.registry import TRANSFER_TARGETS
    for name in target_names():
        MODULE2PACKAGE.update(TRANSFER_TARGETS.get(name).config_packages)


def parse_options(pairs: Iterable[str] | None) -> dict[str, Any]:
    """``['a.b=1', 'c=[1, 2]', 'd=text']`` → ``{'a.b': 1, 'c': [1, 2], 'd': 'text'}``."""
    options = {}
    for pair in pairs or ():
        key, equals, text = pair.partition('=')
        if not equals or not key:
            raise UsageError(f'{pair!r} is not of the form key=value')
        options[key] = _literal(text)
    return options


def _literal(text: str) -> Any:
    words = {'true': True, 'false': False, 'none': None, 'null': None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_keys(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for the first of ``given`` that is not ``known``."""
    known = sorted(known)
    for key in given:
        if key not in known:
            raise UsageError(f'unknown key {key!r} in {where}{did_you_mean(key, known)}; '
                             f'known: {", ".join(known)}')


def _check_override(cfg: Config, key: str) -> None:
    """An override must name a key that is there, or one that its dict's ``type`` may take."""
    *parents, last = key.split('.')
    node: Any = cfg
    for depth, part in enumerate(parents):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        known = list(node.keys()) if hasattr(node, 'keys') else []
        if part not in known:
            where = '.'.join(parents[:depth]) or 'the config'
            raise UsageError(f'--cfg-options {key}: no key {part!r} in {where}'
                             f'{did_you_mean(part, known)}; known: {", ".join(known) or "none"}')
        node = node[part]
    if not hasattr(node, 'keys'):
        if not (isinstance(node, (list, tuple)) and last.isdigit() and int(last) < len(node)):
            raise UsageError(f'--cfg-options {key}: {".".join(parents)} has no item {last!r}')
        return
    known = set(node.keys()) | (runner_keys() if not parents else set())
    if last not in known and not ({'type', '_delete_'} & set(node.keys())):
        raise UsageError(f'--cfg-options {key}: no key {last!r} in '
                         f'{".".join(parents) or "the config"}{did_you_mean(last, known)}; '
                         f'known: {", ".join(sorted(known))}')


def runner_keys() -> set[str]:
    """Top-level keys that mmengine's Runner reads whether or not a config sets them."""
    from mmengine.runner import Runner
    own = {'sync_bn', 'find_unused_parameters', 'compile', 'activation_checkpointing'}
    return own | set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
