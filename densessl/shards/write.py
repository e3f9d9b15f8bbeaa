"""Writing tar shards from a list of images and their masks: copied as they are, resumable."""
from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import densessl
from densessl.errors import UsageError
from densessl.files.json_files import write_json
from densessl.files.lock import BuildLock
from densessl.images.image_list import ImageList, distinct_keys
from densessl.images.tar_index import FORMAT, INDEX, INFO, read_info
from densessl.images.tar_index_file import save_index
from densessl.images.tar_layout import key_of
from densessl.machine.cores import cores
from densessl.masks.find import open_masks, store_for_training
from densessl.masks.metadata import INFO as MASK_INFO
from densessl.masks.metadata import SKIPPED, spell, write_skipped
from densessl.masks.store import Masks
from densessl.pixels.pixel_rule import PixelRule
from densessl.shards.copy import ShardCopy, file_name
from densessl.shards.plan import RECORD, Shard, divide, leave_out_unreadable

SMALLEST = 2 * RECORD
_OURS = re.compile(r'(\d{6,})\.tar|\.(\d{6,})\.tar\.\d+\.part')


@dataclass
class ShardSummary:
    """What a call did: how many shards were ``written`` and ``kept`` (they were there), the
    ``images`` and ``bytes`` in all of them, and the images that were ``skipped`` with reasons."""

    written: int = 0
    kept: int = 0
    images: int = 0
    bytes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        size = f'{self.bytes / 1e9:.2f} GB' if self.bytes >= 1e9 else f'{self.bytes / 1e6:.1f} MB'
        return (f'{self.written + self.kept} shards with {self.images} images, {size}: '
                f'{self.written} written, {self.kept} kept, '
                f'{len(self.skipped)} images skipped, in {self.seconds:.0f} s')


def make_shards(images: ImageList, out: str | Path, *, masks: str | Path | None = None,
                shard_size: int = 10 ** 9, workers: int | None = None, progress: bool = True
                ) -> ShardSummary:
    """Copy images, and their masks, into tar shards in the order of the list.

    The same call goes on with shards that were begun; shards that are whole are kept. The bytes of
    a shard depend on its images, masks and their names alone.

    Args:
        images: what to copy; missing and empty files are left out and listed.
        out: the folder of the shards; created if it is missing.
        masks: a finished mask store of the images, or tar shards with masks. Images without a mask
            are left out.
        shard_size: bytes that a shard has at most, unless it holds a single image.
        workers: threads, each of which writes a shard; as many as cores by default.

    Raises:
        UsageError: ``out`` cannot be written to, holds something else or is being written by
            another process; the masks are unfinished or of other images; two images have one name
            up to the extension; or a file changed while it was copied.
    """
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if shard_size < SMALLEST:
        raise UsageError(f'shards of {shard_size} bytes are too small: give at least {SMALLEST}')
    if workers is not None and workers < 1:
        raise UsageError(f'workers must be at least 1, not {workers}')
    start = time.monotonic()
    workers = workers or cores()
    source = images
    region_masks, images = _masks_of(images, masks)
    distinct_keys(images, lambda name: key_of(name)[0],
                  'be one sample, whose name has no extension')
    what = {'format': FORMAT, 'densessl': densessl.__version__, 'shard_size': shard_size,
            'source': images.digest(),
            'masks': region_masks and {**region_masks.info, 'maps': region_masks.maps}}
    _begin(out, source, what)
    with BuildLock(out):
        images, region_masks, states, skipped = leave_out_unreadable(images, region_masks, workers,
                                                                     progress)
        shards = divide(states, shard_size)
        _remove_strays(out, len(shards))
        begun = partial(write_json, out / INFO, what, shared=True)
        written, arrays = ShardCopy(out, images, region_masks, shards, begun).run(workers, progress)
        summary = ShardSummary(written, len(shards) - written, len(images),
                               sum(shard.size for shard in shards), skipped)
        _finish(out, images, what, shards, arrays, skipped)
    summary.seconds = time.monotonic() - start
    return summary


def _masks_of(images: ImageList, masks: str | Path | None) -> tuple[Masks | None, ImageList]:
    if masks is None:
        return None, images
    found = open_masks(images, masks)
    digest = found.info.get('digest')
    if (found.root / MASK_INFO).exists() and digest not in (None, images.digest()):
        raise UsageError(f'the masks in {found.root} are of another list of images '
                         f'({found.info.get("images")}) than {images.source} ({len(images)}): name '
                         f'those, or run "densessl make_masks {images.source} {found.root}", which '
                         f'makes what is missing')
    images = replace(images, rule=PixelRule.of(found.info))     # only bytes are copied here
    return store_for_training(images, {'store': str(masks)}, is_builder=True)


# -- the folder ------------------------------------------------------------------------------------

def _begin(out: Path, images: ImageList, what: dict[str, Any]) -> None:
    """Write ``shards.json``, or check that the existing one describes the same shards."""
    if out == images.root:
        raise UsageError(f'{out} holds the images themselves; choose another folder')
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = [name for name in os.listdir(out) if name[0] != '.']
    except OSError as error:
        raise UsageError(f'cannot write shards to {out}: {error.strerror}') from error
    if INFO not in found:
        if found:
            raise UsageError(f'{out} is not empty and has no {INFO}, so its {found[0]} is not of '
                             f'shards that make_shards wrote; choose another folder')
        write_json(out / INFO, what, shared=True)
        return
    known = read_info(out)
    if known.get('source') != what['source']:
        raise UsageError(f'{out} holds shards of another list of images than {images.source}; '
                         f'choose another folder or delete it')
    if _making(known) != _making(what):
        raise UsageError(f'{out} holds shards with {_spelled(known)}, not {_spelled(what)}; choose '
                         f'another folder or delete it')
    if known['shard_size'] != what['shard_size']:
        raise UsageError(f'{out} holds shards of {known["shard_size"]} bytes (--shard-size), not '
                         f'{what["shard_size"]}; choose another folder or delete it')


def _making(what: dict[str, Any]) -> dict[str, Any] | None:
    masks = what['masks']
    return masks and {key: masks.get(key) for key in ('generator', 'parameters', 'version', 'maps')}


def _spelled(what: dict[str, Any]) -> str:
    return f'masks by {spell(what["masks"])}' if what['masks'] else 'no masks'


def _remove_strays(out: Path, count: int) -> None:
    """Remove what a killed call left half written, and shards of a longer list (an image was
    removed since)."""
    for name in os.listdir(out):
        shard = _OURS.fullmatch(name)
        if shard and (shard[2] or int(shard[1]) >= count):
            try:
                (out / name).unlink()
            except OSError as error:
                raise UsageError(f'cannot remove {out / name}: {error.strerror}') from error


def _finish(out: Path, images: ImageList, what: dict[str, Any], shards: list[Shard],
            arrays: tuple[np.ndarray, ...], skipped: dict[str, str]) -> None:
    save_index(out / INDEX, arrays)
    if skipped:
        write_skipped(out, skipped)
    else:
        (out / SKIPPED).unlink(missing_ok=True)
    write_json(out / INFO, {
        **what, 'images': len(images), 'digest': images.digest(), 'skipped': len(skipped),
        'shards': [{'file': file_name(number), 'bytes': shard.size}
                   for number, shard in enumerate(shards)],
        'complete': True}, shared=True)
