"""What files say of how masks were made: ``masks.json`` of a store, ``shards.json`` of shards."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from densessl.bounds import is_count
from densessl.errors import shown
from densessl.images.tar_layout import MAX_MAPS


def check_info(info: Any) -> None:
    """Check the types of what a mask store says of itself; keys that are not known may be there.

    Raises:
        ValueError: a value is of the wrong type or size.
    """
    if not isinstance(info, dict):
        raise ValueError('it is not a JSON object')
    for key, (fits, wanted) in _RULES.items():
        if key in info and not fits(info[key]):
            raise ValueError(f'"{key}" is {shown(info[key])}, not {wanted}')
    if 'generator' in info and not _DESCRIBED <= set(info):
        raise ValueError(f'it must have {", ".join(sorted(_DESCRIBED))}')


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 200 and value.isprintable()


_DESCRIBED = {'generator', 'parameters', 'version'}
_WORD = (_is_word, 'a short string')
_COUNT = (is_count, 'a whole number from 0 on')
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'generator': _WORD, 'densessl': _WORD, 'digest': _WORD, 'images': _COUNT, 'masks': _COUNT,
    'skipped': _COUNT, 'version': (lambda value: _is_word(value) or is_count(value),
                                   'a whole number or short string'),
    'parameters': (lambda value: isinstance(value, dict), 'a dict'),
    'maps': (lambda value: type(value) is int and 1 <= value <= MAX_MAPS,
             f'a whole number from 1 to {MAX_MAPS}'),
    'complete': (lambda value: isinstance(value, bool), 'true or false')}
