"""What a mask store says about itself: how masks are made, what is done, which images have none."""
from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import densessl
from densessl.bounds import is_count
from densessl.errors import UsageError, path_of
from densessl.files.json_files import parse_json, write_json
from densessl.files.writing import write_atomically
from densessl.images.image_list import ImageList
from densessl.images.mask_facts import check_info
from densessl.masks.generator import MaskGenerator
from densessl.pixels.pixel_rule import PixelRule
from densessl.plugins import name_of

_MARK = re.compile(r'([0-9]{1,9})-of-([0-9]{1,9})\.json')
INFO, SKIPPED, SHARDS = 'masks.json', 'skipped.txt', '.shards'


def begin(root: Path, images: ImageList, generator: MaskGenerator) -> None:
    """Write ``masks.json``, or check that the existing one describes the same masks."""
    described, path = describe(generator), root / INFO
    try:
        root.mkdir(parents=True, exist_ok=True)
        # the order matters: a shard that starts at the same time writes masks.json, then masks
        strangers = not path.exists() and any(name[0] != '.' for name in os.listdir(root))
    except OSError as error:
        raise UsageError(f'cannot write masks to {root}: {error.strerror}') from error
    if strangers and not path.exists():
        raise UsageError(f'{root} is not empty and has no {INFO}, so it is not a mask store; '
                         f'choose another folder')
    known: dict[str, Any] = {}
    if path.exists():
        known = read_info(root)
        if any(known[key] != described[key] for key in described):
            raise UsageError(f'{root} was made with {spell(known)}, not {spell(described)}; choose '
                             f'another folder or delete it')
        require_same_rule(root, PixelRule.of(known, str(path)), images)
    listed = {'images': len(images), 'digest': images.digest()}
    if generator.maps > 1:
        listed['maps'] = generator.maps
    if {key: known.get(key) for key in listed} != listed:
        facts = images.rule.record() | {'densessl': densessl.__version__} | listed
        write_json(path, described | facts, shared=True)


def require_same_rule(root: Path, theirs: PixelRule, images: ImageList) -> None:
    """Raise UsageError if the masks in ``root`` are of images that were read by another rule."""
    if theirs != images.rule:
        raise UsageError(f'the masks in {root} were made of images read by {theirs}, not by '
                         f'{images.rule}: give --value-range and --bands as they were given then, '
                         f'or make the masks again in another folder')


def describe(generator: MaskGenerator) -> dict[str, Any]:
    """What decides the masks: the generator's name, parameters and version, as JSON has them."""
    cls = type(generator)
    try:
        described = {'generator': name_of(cls), 'parameters': generator.parameters(),
                     'version': generator.version}
        check_info(described | {'maps': generator.maps})
        return json.loads(json.dumps(described, allow_nan=False))
    except (Exception, SystemExit) as error:    # parameters() may be a plugin's own
        raise UsageError(f'{path_of(cls)}: {type(error).__name__}: {error}; __init__ must keep '
                         f'each argument under its name, and parameters() return a dict that JSON '
                         f'can hold') from error


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
        info = parse_json(path.read_bytes())
        check_info(info)
        if 'generator' not in info:
            raise ValueError('it does not say its generator')
    except FileNotFoundError as error:
        raise UsageError(f'{root} is not a mask store: it has no {INFO} (make one with '
                         f'"densessl make_masks IMAGES {root}")') from error
    except (OSError, ValueError) as error:
        raise UsageError(f'{path} cannot be used: {error}; restore the file that was written '
                         f'with the masks, or make them again in another folder') from error
    return info


def write_mark(root: Path, shard: tuple[int, int], digest: str, masks: int,
               skipped: dict[str, str]) -> None:
    """Say that ``shard`` = (I, N) of the list of images ``digest`` is done."""
    write_json(root / SHARDS / f'{shard[0]}-of-{shard[1]}.json',
               {'digest': digest, 'masks': masks, 'skipped': skipped}, shared=True)


def gather_marks(root: Path, digest: str | None, shards: int | None = None
                 ) -> list[dict[str, Any]]:
    """The marks of all shards of one way to split the images ``digest``; none unless all are done.

    Args:
        shards: into how many; None: any way.
    """
    groups: dict[int, dict[int, dict[str, Any]]] = {}
    for path in sorted((root / SHARDS).glob('*-of-*.json')):
        numbers = _MARK.fullmatch(path.name)
        mark = _read_mark(path) if numbers else {}
        if numbers and mark['digest'] == digest:
            i, n = map(int, numbers.groups())
            groups.setdefault(n, {})[i] = mark
    done = [list(marks.values()) for n, marks in groups.items()
            if len(marks) == n and shards in (None, n)]
    return done[0] if done else []


def forget_other_splits(root: Path, shards: int) -> None:
    """Remove what shards left of a store that is now complete, except where the images were split
    into as many ``shards``: it is of images as they were before."""
    for path in (root / SHARDS).glob('*-of-*.*'):
        if path.stem.rpartition('-')[2] != str(shards):
            path.unlink(missing_ok=True)


def _read_mark(path: Path) -> dict[str, Any]:
    try:
        mark = parse_json(path.read_bytes())
        skipped = mark.get('skipped') if isinstance(mark, dict) else None
        if not (isinstance(skipped, dict) and is_count(mark.get('masks')) and 'digest' in mark
                and all(isinstance(reason, str) for reason in skipped.values())):
            raise ValueError('it must have "digest", "masks" and "skipped"')
    except (OSError, ValueError) as error:
        raise UsageError(f'{path} cannot be used: {error}; delete it and run the same "densessl '
                         f'make_masks" again, which keeps the masks that are there') from error
    return mark


def finish(root: Path, images: ImageList, marks: list[dict[str, Any]]) -> None:
    """Write ``skipped.txt`` and complete ``masks.json``. Shards that end together write the same
    bytes, so it does not matter which is last."""
    skipped = {name: reason for mark in marks for name, reason in mark['skipped'].items()}
    write_skipped(root, skipped)
    counts = totals(marks)
    if not counts:
        first = [f'{name}: {skipped[name]}' for name in sorted(skipped)[:1]]
        raise UsageError(f'none of the {len(images)} images in {images.source} gave a mask; '
                         f'{first[0]}' if first else f'no images in {images.source}')
    write_json(root / INFO, read_info(root) | counts, shared=True)


def write_skipped(root: Path, skipped: dict[str, str]) -> None:
    """Write ``skipped.txt``: names of images, each with the reason, in sorted order."""
    lines = [f'{_escape(name)}\t{" ".join(skipped[name].split())}\n' for name in sorted(skipped)]
    write_atomically(root / SKIPPED, ''.join(lines).encode('utf-8', 'surrogateescape'),
                     shared=True)


def read_skipped(root: Path) -> dict[str, str]:
    """What :func:`write_skipped` wrote; nothing if it never did."""
    path = root / SKIPPED
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding='utf-8', errors='surrogateescape')
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}') from error
    pairs = [line.partition('\t') for line in text.split('\n') if line]
    if not all(tab for _, tab, _ in pairs):
        raise UsageError(f'{path} is damaged: each line must be a name, a tab and a reason; delete '
                         f'it and make the masks again')
    return {_unescape(name): reason for name, _, reason in pairs}


def totals(marks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the marks of all shards come to; nothing if not one mask could be made."""
    masks = sum(mark['masks'] for mark in marks)
    skipped = sum(len(mark['skipped']) for mark in marks)
    return {'masks': masks, 'skipped': skipped, 'complete': True} if masks else {}


def _escape(name: str) -> str:
    return name.replace('\\', '\\\\').replace('\n', '\\n').replace('\t', '\\t')


def _unescape(name: str) -> str:
    return (name.replace('\\\\', '\0').replace('\\n', '\n').replace('\\t', '\t')
            .replace('\0', '\\'))
