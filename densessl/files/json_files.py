"""JSON from anywhere, read with care; our own, written atomically."""
from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from densessl.errors import UsageError, shown
from densessl.files.writing import write_atomically, write_text

MAX_NESTING = 100      # of JSON
_SMALL = 1 << 22       # characters: larger ones are not looked through


def parse_json(text: str | bytes) -> Any:
    """What JSON from anywhere holds.

    Raises:
        ValueError: it is not JSON or, of up to 4 MB, nested more than :data:`MAX_NESTING` deep or
            giving a key twice.
    """
    small = len(text) < _SMALL
    try:
        content = json.loads(text, object_pairs_hook=_given_once if small else None)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    # A large file's depth is left to the readers: they look into the levels that they know.
    if small and _depth(content) > MAX_NESTING:
        raise ValueError('it is nested too deeply')
    return content


def _given_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (key, _), = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f'the key {shown(key)} is given twice')
    return content


def _depth(content: Any) -> int:
    level, depth = [content], 0
    while level and depth <= MAX_NESTING:
        level = [inner for one in level if isinstance(one, (dict, list))
                 for inner in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


def read_json_object(path: Path, needs: Iterable[str] = (), *, remedy: str) -> dict[str, Any]:
    """A JSON file that holds an object with the keys ``needs``.

    Raises:
        UsageError: it is missing, damaged or something else; the message ends with ``remedy``.
    """
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError('it is not a JSON object')
        if lacking := [key for key in needs if key not in content]:
            raise ValueError(f'it has no {", ".join(lacking)}')
    except OSError as error:
        raise UsageError(f'{path} cannot be read ({error.strerror}); {remedy}') from error
    except ValueError as error:
        raise UsageError(f'{path} is damaged ({error}); {remedy}') from error
    return content


def json_object(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None if the file is missing, damaged or something else."""
    with suppress(UsageError):
        return read_json_object(path, remedy='')
    return None


def write_json(path: Path, content: Any, *, shared: bool = False) -> None:
    """Write ``content`` as readable JSON, atomically; numbers that JSON does not have (NaN and
    infinities) as null. Names of files that are not UTF-8 are written in escapes, from which they
    read back as they were. ``shared`` is that of :func:`write_atomically`."""
    text = json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    if shared:
        write_atomically(path, text.encode(errors='backslashreplace'), shared=True)
    else:
        write_text(path, text, errors='backslashreplace')


def without_nan(content: Any) -> Any:
    """``content`` with None in place of every NaN and infinity."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
