"""The backbone that a file of weights states: data, checked before anything is built from it.

A config is code and may give a builder whatever it likes. A file may not: libraries look up the
names in an argument wherever Python finds them, and some arguments read or fetch other files.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

from mmengine.registry import registry
from torch import Tensor, nn

from densessl.backbones import LOADING, build_backbone, spelled, target_names
from densessl.errors import UsageError, did_you_mean, shown
from densessl.registry import TRANSFER_TARGETS

MAX_NAME = 128         # characters
MAX_DEPTH = 8
MAX_VALUES = 1000
MAX_NUMBER = 10 ** 6
_KEY = re.compile(r'[A-Za-z][A-Za-z0-9_]{0,63}')
# Neither a path nor an address nor a module: no slash, no colon, a dot only between digits.
_WORD = re.compile(r'[A-Za-z0-9_+ -]{0,64}(?:(?<=[0-9])\.[0-9][A-Za-z0-9_+-]{0,16})?')
# What builders raise on values that do not go together.
_BUILDING = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError,
             RuntimeError, TypeError, ValueError)


def check_stated_backbone(cfg: Any, path: Path) -> None:
    """Check the backbone that the file ``path`` states; nothing is built, opened or imported but
    the library that it names.

    Args:
        cfg: what should be ``dict(type='TARGET.name', **arguments)``.

    Raises:
        UsageError: not a backbone of an installed library's own list, or an argument that is not a
            plain value of its builder, or one that loads something.
    """
    _Check(path).backbone(cfg)


def build_stated(cfg: Mapping[str, Any], where: str | Path) -> nn.Module:
    """Build a checked backbone with random weights, from registered parts alone.

    Raises:
        UsageError: its arguments do not go together.
    """
    try:
        with _registered_only():
            return build_backbone(cfg)
    except UsageError as error:
        raise UsageError(f'{where}: {error}') from error
    except _BUILDING as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f'{where}: the backbone that it states, {spelled(cfg)}, cannot be built: '
                         f'{reason}; export it again') from error


def rebuild(meta: Mapping[str, Any], state: Mapping[str, Tensor], where: str | Path) -> nn.Module:
    """Build the backbone that checked provenance states and load its weights.

    Raises:
        UsageError: it cannot be built, or the weights are another's.
    """
    module = build_stated(meta['backbone'], where)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UsageError(f'{where} does not fit the backbone that it names '
                         f'({spelled(meta["backbone"])}): '
                         f'{str(error).splitlines()[1].strip()}') from error
    return module


@contextmanager
def _registered_only() -> Iterator[None]:
    """Within, a registry finds what is registered. Otherwise it imports a name that it does not
    know, and layers look up more than each ``type``: ``padding_mode`` of a ConvModule, say."""
    find = registry.get_object_from_string
    registry.get_object_from_string = lambda name: None
    try:
        yield
    finally:
        registry.get_object_from_string = find


class RefusedFact(UsageError):
    """What a file says, or is to say, of its weights is not what readers take.

    Attributes:
        path: the file. key: of the fact, dotted. value: what it says. wanted: what it must be.
        note: a sentence about what was done with it.
    """

    def __init__(self, path: Path, key: str, value: Any, wanted: str, note: str = '') -> None:
        super().__init__(path, key, value, wanted, note)
        self.path, self.key, self.value, self.wanted, self.note = path, key, value, wanted, note

    def __str__(self) -> str:
        remedy = 'get the file as densessl export wrote it, or export it again'
        remedy = f'{self.note}; {remedy}' if self.note else remedy.capitalize()
        return (f'{self.path} is refused: its provenance says {self.key} = {shown(self.value)}; it '
                f'must be {self.wanted}. {remedy}')


class _Library(Protocol):
    """What a transfer target says of the backbones that a file may name."""

    name: str

    def backbone_names(self) -> Collection[str]: ...

    def backbone_arguments(self, name: str, arguments: Mapping[str, Any]
                           ) -> Mapping[str, Collection[str] | None]: ...

    def layer_types(self) -> Collection[str]: ...


class _Check:
    """The check of one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.values = path, 0

    def backbone(self, cfg: Any) -> None:
        if type(cfg) is not dict or type(cfg.get('type')) is not str or len(cfg['type']) > MAX_NAME:
            self.refuse('', cfg, "a dict(type='TARGET.name', …) with plain arguments")
        arguments = {key: value for key, value in cfg.items() if key != 'type'}
        self.plain('', arguments, 0)
        target, name = self.target(cfg['type'])
        allowed = self.allowed(target, name, arguments)
        types = cache(target.layer_types)       # asked for only where a layer is named
        for key, value in arguments.items():
            if key in LOADING and (value is None or value is False):
                continue
            if key not in allowed:
                self.refuse(key, value, f'an argument of {cfg["type"]}'
                            f'{did_you_mean(key, allowed)}: {", ".join(sorted(allowed))}')
            choices = allowed[key]
            if choices is not None and type(value) is str:
                if value not in choices:
                    self.refuse(key, value, f'a name in {target.name}’s own list'
                                f'{did_you_mean(value, choices)}')
                continue
            self.words(key, value, types, target.name)

    def allowed(self, target: _Library, name: str, arguments: dict[str, Any]
                ) -> dict[str, Collection[str] | None]:
        try:
            found = target.backbone_arguments(name, arguments)
        except UsageError as error:
            raise UsageError(f'{self.path} is refused: {error}') from error
        return {key: choices for key, choices in found.items() if key not in LOADING}

    def target(self, kind: str) -> tuple[_Library, str]:
        library, _, name = kind.partition('.')
        installed = target_names()
        if library not in installed:
            self.refuse('type', kind, f"'TARGET.name' of an installed target: "
                                      f'{", ".join(installed)}')
        target = TRANSFER_TARGETS.get(library)()
        names = target.backbone_names()
        if not names:
            self.refuse('type', kind, f'of another target: {library} gives no list of the '
                                      f'backbones that files may name '
                                      f'({type(target).__name__}.backbone_names)')
        if name not in names:
            self.refuse('type', kind, f'in {library}’s own list of backbones'
                                      f'{did_you_mean(name, names)}')
        return target, name

    def plain(self, at: str, value: Any, depth: int) -> None:
        """Values of the simplest types, few of them, under keys that are names; nothing loads."""
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            self.refuse(at, value, f'at most {MAX_VALUES} values, nested {MAX_DEPTH} deep')
        if type(value) is dict:
            for key, one in value.items():
                if not (type(key) is str and _KEY.fullmatch(key)):
                    self.refuse(_join(at, shown(key)), one, 'under a key that is a plain name')
                if key in LOADING and not (one is None or one is False):
                    self.refuse(_join(at, key), one, 'left out: a file of weights loads no other '
                                                     'source')
                self.plain(_join(at, key), one, depth + 1)
        elif type(value) in (list, tuple):
            for i, one in enumerate(value):
                self.plain(f'{at}[{i}]', one, depth + 1)
        elif type(value) in (int, float):
            if not abs(value) <= MAX_NUMBER:
                self.refuse(at, value, f'a number from -{MAX_NUMBER} to {MAX_NUMBER}')
        elif not (value is None or type(value) in (bool, str)):
            self.refuse(at, value, 'None, a bool, number or string, or lists and dicts of them')

    def words(self, at: str, value: Any, types: Callable[[], Collection[str]], library: str
              ) -> None:
        """No string that a builder could take for a module, path or address."""
        if type(value) is dict:
            for key, one in value.items():
                if key == 'type' and not (type(one) is str and one in types()):
                    self.refuse(_join(at, key), one, f'a layer that {library} has registered'
                                f'{did_you_mean(str(one), types())}')
                elif key != 'type':
                    self.words(_join(at, key), one, types, library)
        elif type(value) in (list, tuple):
            for i, one in enumerate(value):
                self.words(f'{at}[{i}]', one, types, library)
        elif type(value) is str and not _WORD.fullmatch(value):
            self.refuse(at, value, 'a plain word, without dots, slashes and colons')

    def refuse(self, at: str, value: Any, wanted: str) -> NoReturn:
        key = _join('backbone', at) if at else 'backbone'
        raise RefusedFact(self.path, key, value, wanted, 'Nothing of it was built')


def _join(at: str, key: str) -> str:
    return f'{at}.{key}' if at else key
