"""What a mask store says of itself: how masks are made, what is done, which images have none."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import densessl
from densessl.data.images import ImageList
from densessl.errors import UsageError
from densessl.files import write_atomically

if TYPE_CHECKING:
    from densessl.data.masks import MaskGenerator

INFO, SKIPPED, SHARDS = 'masks.json', 'skipped.txt', '.shards'


def begin(root: Path, images: ImageList, generator: MaskGenerator) -> None:
    """Write ``masks.json``, or check that the one that is there is of the same masks."""
    ours, path = describe(generator), root / INFO
    try:
        root.mkdir(parents=True, exist_ok=True)
        # the order matters: a shard that starts at the same time writes masks.json, then masks
        strangers = not path.exists() and any(name[0] != '.' for name in os.listdir(root))
    except OSError as error:
        raise UsageError(f'cannot write masks to {root}: {error.strerror}') from error
    if strangers and not path.exists():
        raise UsageError(f'{root} is not empty and has no {INFO}, so it is not a mask store; '
                         f'choose another folder')
    known = read_info(root) if path.exists() else {}
    theirs = {key: known[key] for key in ours if known}
    if theirs and theirs != ours:
        raise UsageError(f'{root} was made with {spell(theirs)}, not {spell(ours)}; choose another '
                         f'folder or delete it')
    listed = {'images': len(images), 'digest': images.digest()}
    if generator.maps > 1:
        listed['maps'] = generator.maps
    if {key: known.get(key) for key in listed} != listed:
        write_json(path, ours | {'densessl': densessl.__version__} | listed)


def describe(generator: MaskGenerator) -> dict[str, Any]:
    """What decides the masks: the generator's name, parameters and version, as JSON has them."""
    try:
        parameters = json.loads(json.dumps(generator.parameters(), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f'parameters() of mask generator {generator.name!r} must return what '
                         f'JSON can hold: {error}') from error
    return {'generator': generator.name, 'parameters': parameters, 'version': generator.version}


def spell(info: dict[str, Any]) -> str:
    """``name(parameter=value, …) version 1`` of what :func:`describe` returns; masks in tar shards
    that others made may not say it."""
    if 'generator' not in info:
        return 'an unknown generator'
    values = ', '.join(f'{name}={value!r}' for name, value in info['parameters'].items())
    return f'{info["generator"]}({values}) version {info["version"]}'


def read_info(root: Path) -> dict[str, Any]:
    """The contents of ``root``'s ``masks.json``."""
    path = root / INFO
    try:
        info = json.loads(path.read_text(encoding='utf-8'))
        if not {'generator', 'parameters', 'version'} <= set(info):
            raise ValueError('it must have "generator", "parameters" and "version"')
    except FileNotFoundError as error:
        raise UsageError(f'{root} is not a mask store: it has no {INFO} (make one with '
                         f'"densessl make_masks IMAGES {root}")') from error
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f'{path} cannot be used: {error}') from error
    return info


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that ``path`` is never half written."""
    write_atomically(path, json.dumps(content, indent=2).encode() + b'\n',
                     shared=True)


def write_mark(root: Path, shard: tuple[int, int], digest: str, masks: int,
               skipped: dict[str, str]) -> None:
    """Say that ``shard`` = (I, N) of the list of images ``digest`` is done."""
    write_json(root / SHARDS / f'{shard[0]}-of-{shard[1]}.json',
               {'digest': digest, 'masks': masks, 'skipped': skipped})


def gather_marks(root: Path, digest: str | None) -> list[dict[str, Any]] | None:
    """The marks of all shards of one way to split the images ``digest``, if all are done."""
    groups: dict[int, dict[int, dict[str, Any]]] = {}
    for path in sorted((root / SHARDS).glob('*-of-*.json')):
        mark = json.loads(path.read_text(encoding='utf-8'))
        if mark['digest'] == digest:
            i, n = map(int, path.stem.split('-of-'))
            groups.setdefault(n, {})[i] = mark
    done = [list(marks.values()) for n, marks in groups.items() if len(marks) == n]
    return done[0] if done else None


def finish(root: Path, images: ImageList, marks: list[dict[str, Any]]) -> None:
    """Write ``skipped.txt`` and complete ``masks.json``. Shards that end together write the same
    bytes, so it does not matter which is last."""
    skipped = {name: reason for mark in marks for name, reason in mark['skipped'].items()}
    write_skipped(root, skipped)
    counts = totals(marks)
    if not counts:
        first = [_line(name, skipped[name]) for name in sorted(skipped)[:1]]
        raise UsageError(f'none of the {len(images)} images in {images.source} gave a mask; '
                         f'{first[0]}' if first else f'no images in {images.source}')
    write_json(root / INFO, read_info(root) | counts)


def write_skipped(root: Path, skipped: dict[str, str]) -> None:
    """Write ``skipped.txt``: names of images, each with the reason, in sorted order."""
    lines = [f'{_line(name, skipped[name])}\n' for name in sorted(skipped)]
    write_atomically(root / SKIPPED, ''.join(lines).encode('utf-8', 'surrogateescape'),
                     shared=True)


def read_skipped(root: Path) -> dict[str, str]:
    """What :func:`write_skipped` wrote; nothing if it never did."""
    path = root / SKIPPED
    if not path.exists():
        return {}
    text = path.read_text(encoding='utf-8', errors='surrogateescape')
    pairs = [line.split('\t', 1) for line in text.split('\n') if line]
    return {_unescape(name): reason for name, reason in pairs}


def totals(marks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the marks of all shards come to; nothing if not one mask could be made."""
    masks = sum(mark['masks'] for mark in marks)
    skipped = sum(len(mark['skipped']) for mark in marks)
    return {'masks': masks, 'skipped': skipped, 'complete': True} if masks else {}


def _line(name: str, reason: str) -> str:
    return f'{_escape(name)}\t{" ".join(reason.split())}'


def _escape(name: str) -> str:
    return name.replace('\\', '\\\\').replace('\n', '\\n').replace('\t', '\\t')


def _unescape(name: str) -> str:
    return (name.replace('\\\\', '\0').replace('\\n', '\n').replace('\\t', '\t')
            .replace('\0', '\\'))
