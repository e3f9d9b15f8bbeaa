"""Errors that are the user's to mend: reported as one line with exit code 2."""
from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(ValueError):
    """Wrong usage or input. The message names the value, the choices and the remedy."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the choice closest to ``name``, or an empty string."""
    close = get_close_matches(str(name), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f' (did you mean {close[0]!r}?)' if close else ''
