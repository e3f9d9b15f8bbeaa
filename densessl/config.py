"""Find a config by path or by name, apply overrides, refuse unknown keys."""
from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.config.utils import MODULE2PACKAGE

from densessl.errors import UsageError, did_you_mean
from densessl.overrides import apply_overrides
from densessl.plugins import TRANSFER_TARGETS, load_plugins


def config_folders() -> list[Path]:
    """Folders searched by name: densessl's own configs, then those of plugins."""
    package = find_spec('densessl_configs')
    folders = [Path(folder) for folder in package.submodule_search_locations] if package else []
    return folders + [folder for plugin in load_plugins()
                      for folder in plugin.provides.get('config_folders', [])]


def find_config(name: str) -> Path:
    """The config file for a path, or for a name such as ``small/detcon_r18``.

    Raises:
        UsageError: there is none; the message lists close names.
    """
    if Path(name).is_file():
        return Path(name)
    wanted = name.removesuffix('.py').removeprefix('configs/')
    for candidate in (wanted, re.sub('^demo/', 'small/', wanted)):     # the former name of some
        for folder in config_folders():
            if (folder / f'{candidate}.py').is_file():
                return folder / f'{candidate}.py'
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
    except (Exception, SystemExit) as error:    # a config is code: its user needs the line
        raise UsageError(f'config {path} cannot be read: {type(error).__name__}: {error}'
                         ) from error
    apply_overrides(cfg, options or {})
    return cfg


def _know_packages() -> None:
    """Tell mmengine how the packages are called whose configs a downstream config inherits: its
    own table has other names for some, and it would say of installed ones that they are not."""
    load_plugins()
    for target in TRANSFER_TARGETS.module_dict.values():
        MODULE2PACKAGE.update(target.config_packages)
