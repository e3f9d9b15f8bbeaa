"""Errors that are reported as one line: the user's to mend (exit code 2), and a run's end (1)."""
from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn


class UsageError(ValueError):
    """Wrong usage or input. The message names the value, the choices and the remedy."""


class RunFailed(RuntimeError):
    """A run that cannot go on, through no fault of the code: reported as one line, exit code 1."""


class Interrupted(Exception):
    """A run was asked to stop and has saved what it goes on from: one line, exit code 1."""


class _Short(reprlib.Repr):
    """Shows only the type of an object: the text of some is long, or costly to make."""

    def repr_instance(self, x: Any, level: int) -> str:
        plain = x is None or isinstance(x, (bool, float, complex, bytes))
        return repr(x)[:self.maxother] if plain else f'a {type(x).__name__}'


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3


def path_of(cls: type) -> str:
    """``module.Class``: where the reader of a message finds it."""
    return f'{cls.__module__}.{cls.__qualname__}'


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the choice closest to ``name``, or an empty string."""
    close = get_close_matches(str(name), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f' (did you mean {close[0]!r}?)' if close else ''


def message_of(error: Exception) -> str:
    """The message; of an error from a loader's worker, what stands behind its traceback."""
    last = str(error).strip().splitlines()[-1]
    return last.partition(f'.{type(error).__name__}: ')[2] or str(error)


def escaped(text: str) -> str:
    """``text`` with control characters spelt out: a terminal obeys them, wherever they are from."""
    return ''.join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shown(value: Any) -> str:
    """A value out of a file as messages quote it: one short printable line, whatever it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:      # a whole number of more digits than Python prints
        return f'a {type(value).__name__} of very many digits'
    return escaped(text if len(text) <= 100 else f'{text[:80]}…')


def refuse_value(key: str, value: Any, wanted: str, hint: str = '') -> NoReturn:
    """Raise the UsageError of a value that is not what its ``key`` must be."""
    raise UsageError(f'{key} must be {wanted}, not {shown(value)}{hint}')


def check_keys(where: str, given: Iterable[str], known: Iterable[str], what: str = 'key') -> None:
    """Raise UsageError for the first of ``given`` that is not ``known``; the message calls it
    a ``what``."""
    known = sorted(known)
    for key in given:
        if key not in known:
            raise UsageError(f'unknown {what} {key!r} in {where}{did_you_mean(key, known)}; '
                             f'known: {", ".join(known)}')


def check_arguments(function: Callable[..., Any], kwargs: Mapping[str, Any], where: str) -> None:
    """Check that ``function`` (a class, too) can be called with ``kwargs``, before it is.

    Args:
        where: what the message calls the function, such as ``mask generator 'name'``.

    Raises:
        UsageError: an unknown or a missing argument; the message lists those it takes.
    """
    parameters = inspect.signature(function).parameters
    kinds = inspect.Parameter
    takes = [name for name, p in parameters.items()
             if p.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    choices = f'it takes {", ".join(takes)}' if takes else 'it takes none'
    if not any(p.kind is kinds.VAR_KEYWORD for p in parameters.values()):
        for name in kwargs:
            if name not in takes:
                raise UsageError(f'unknown parameter {name!r} of {where}'
                                 f'{did_you_mean(name, takes)}; {choices}')
    missing = [name for name in takes
               if parameters[name].default is kinds.empty and name not in kwargs]
    if missing:
        raise UsageError(f'{where} needs {", ".join(missing)}; {choices}')
