"""What a value of a view or of normalization may be, checked before it reaches compiled code.

One sentence for all: the key, what is allowed, the value. Comparisons come first, so that NaN,
infinity, text and integers that no float holds are refused like any other wrong value.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from densessl.errors import UsageError, did_you_mean, shown


def check_number(key: str, value: Any, least: float, most: float, *, whole: bool = False,
                 odd: bool = False) -> None:
    """Raise UsageError unless ``value`` is a number in [``least``, ``most``]; truth values are
    not numbers."""
    right = _is_number(value) and least <= value <= most
    if right and (whole or odd):
        right = isinstance(value, int) and (not odd or value % 2 == 1)
    if not right:
        kind = 'an odd whole number' if odd else 'a whole number' if whole else 'a number'
        _refuse(key, f'{kind} in {least:g} … {most:g}', value)


def check_probability(key: str, value: Any) -> None:
    """Raise UsageError unless ``value`` is a number in [0, 1]."""
    if not (_is_number(value) and 0 <= value <= 1):
        _refuse(key, 'a probability in 0 … 1', value)


def check_range(key: str, value: Any, least: float, most: float) -> None:
    """Raise UsageError unless ``value`` is two numbers, ``least`` ≤ low ≤ high ≤ ``most``."""
    if not (_are_numbers(value, 2) and least <= value[0] <= value[1] <= most):
        _refuse(key, f'two numbers, {least:g} ≤ low ≤ high ≤ {most:g}', value)


def check_channels(key: str, value: Any, least: float, most: float) -> None:
    """Raise UsageError unless ``value`` is a number in [``least``, ``most``] for each of the
    channels red, green and blue."""
    if not (_are_numbers(value, 3) and all(least <= each <= most for each in value)):
        _refuse(key, f'three numbers (R, G, B) in {least:g} … {most:g}', value)


def check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Raise UsageError unless ``value`` is one of the words ``choices``."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        close = did_you_mean(value, choices) if isinstance(value, str) else ''
        _refuse(key, f'one of {", ".join(choices)}', value, close)


def check_flag(key: str, value: Any) -> None:
    """Raise UsageError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        _refuse(key, 'True or False', value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_numbers(value: Any, count: int) -> bool:
    return (isinstance(value, (list, tuple)) and len(value) == count
            and all(_is_number(each) for each in value))


def _refuse(key: str, allowed: str, value: Any, hint: str = '') -> None:
    raise UsageError(f'{key} must be {allowed}, not {shown(value)}{hint}')
