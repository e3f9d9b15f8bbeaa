"""What a file of weights says about its pretraining; types and bounds are checked on reading."""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from densessl.bounds import is_count
from densessl.errors import UsageError, escaped, shown
from densessl.weights.lineage import LINKS, MOST_LINKS, TEACHER, links_of
from densessl.weights.stated_backbone import RefusedFact, check_stated_backbone

PROVENANCE = ('method', 'backbone', 'mean', 'std', 'channel_order')   # what the hand-off reads
CHANNEL_ORDERS = ('RGB', 'BGR')
MAX_TEXT = 1000             # characters; the longest name of a file has 255 bytes
MAX_DEPTH, MAX_VALUES = 8, 10_000
_LARGEST = 1e6              # of mean and std, whose pixels are 0 … 255
_HASH = re.compile('[0-9a-f]{64}')
Rule = tuple[Callable[[Any], bool], str]


def check_provenance(meta: Mapping[str, Any], path: Path) -> None:
    """Check the provenance in the file ``path``, which anybody may have made.

    Raises:
        UsageError: some of :data:`PROVENANCE` is missing, or a value is of the wrong type or
            size, or names something that must not be built
            (:func:`densessl.weights.stated_backbone.check_stated_backbone`).
    """
    missing = [key for key in PROVENANCE if key not in meta]
    if missing:
        raise UsageError(f'{path} does not say the {", ".join(missing)} of its pretraining')
    for prefix, facts, rules in (('', meta, _RULES),
                                 ('imported.', meta.get('imported', {}), _IMPORTED)):
        for key, (fits, wanted) in rules.items():
            if key in facts and not fits(facts[key]):
                raise RefusedFact(path, f'{prefix}{key}', facts[key], wanted)
    for key, value in meta.items():
        if not _is_text(key):
            raise RefusedFact(path, shown(key), value, 'named by a short string')
        if key not in _RULES and key != 'backbone' and not _is_plain(value):
            raise RefusedFact(path, escaped(key), value, f'a plain value: None, bool, number, '
                              f'string, or at most {MAX_VALUES} of them in lists and dicts, '
                              f'{MAX_DEPTH} deep')
    check_stated_backbone(meta['backbone'], path)


def describe(meta: Mapping[str, Any]) -> str:
    """Where weights are from, in a few words; control characters are spelt out."""
    imported = meta.get('imported')
    origin = (f'imported from {imported.get("file", "?")}' if imported else
              f'{meta.get("epochs", "?")} epochs on {meta.get("data", "?")}')
    start = ''.join(f', started from {link["file"]}' for link in links_of(meta)[:1])
    return escaped(f'{meta["backbone"]["type"]}, {meta["method"]}, {origin}{start}')


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT


def _is_number(value: Any) -> bool:
    return (type(value) is int and abs(value) < 2 ** 64) or (
        type(value) is float and math.isfinite(value))


def _is_color(value: Any) -> bool:
    return type(value) in (list, tuple) and len(value) == 3 and all(
        _is_number(one) and abs(one) <= _LARGEST for one in value)


def _list_of(fits: Callable[[Any], bool], most: int) -> Callable[[Any], bool]:
    return lambda value: (type(value) in (list, tuple) and len(value) <= most
                          and all(map(fits, value)))


def _is_link(value: Any) -> bool:
    return type(value) is dict and _is_plain(value) and _is_text(value.get('file')) and all(
        _is_text(value.get(key)) and _HASH.fullmatch(value[key])
        for key in ('sha256', 'file_sha256'))


def _is_plain(value: Any) -> bool:
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for one in level:
            if type(one) is dict:
                if not all(map(_is_text, one)):
                    return False
                deeper += one.values()
            elif type(one) in (list, tuple):
                deeper += one
            elif not (one is None or type(one) is bool or _is_number(one) or _is_text(one)):
                return False
        count += len(level)
        if not deeper or count + len(deeper) > MAX_VALUES:
            return not deeper
        level = deeper
    return False


_TEXT: Rule = (_is_text, f'a string of at most {MAX_TEXT} characters')
_TEXTS: Rule = (_list_of(_is_text, 1000), 'a list of short strings')
_COUNT: Rule = (is_count, 'a whole number from 0 on')
_NUMBER: Rule = (_is_number, 'a finite number')
_SHA256: Rule = (lambda value: _is_text(value) and _HASH.fullmatch(value) is not None,
                 '64 hexadecimal digits')
_RULES: dict[str, Rule] = {
    LINKS: (_list_of(_is_link, MOST_LINKS), f'a list of at most {MOST_LINKS} links to weights'),
    TEACHER: (_is_link, 'a link to weights'),
    'densessl': _TEXT, 'torch': _TEXT, 'method': _TEXT, 'config': _TEXT, 'data': _TEXT,
    'keys': _TEXT, 'sha256': _SHA256, 'images': _COUNT, 'steps': _COUNT, 'global_batch': _COUNT,
    'epochs': _NUMBER, 'seed': _NUMBER,
    'masks': (lambda value: value is None or _is_text(value), 'None or a short string'),
    'mean': (_is_color, f'three numbers from -{_LARGEST:.0f} to {_LARGEST:.0f}'),
    'std': (lambda value: _is_color(value) and min(value) >= 1 / _LARGEST,
            f'three numbers from {1 / _LARGEST:g} to {_LARGEST:.0f}'),
    'channel_order': (lambda value: _is_text(value) and value in CHANNEL_ORDERS,
                      ' or '.join(CHANNEL_ORDERS)),
    'imported': (lambda value: type(value) is dict and _is_plain(value), 'a dict of plain values'),
}
_IMPORTED: dict[str, Rule] = {
    'file': _TEXT, 'origin': _TEXT, 'file_sha256': _SHA256, 'layout': _TEXTS, 'assumed': _TEXTS,
    'dropped': _COUNT}
