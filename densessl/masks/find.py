"""The store that a config's ``masks`` asks for: the user's own, that in the images' tar shards, or
one in the cache."""
from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.files import lock as build_lock
from densessl.files.folders import cache_root, require_cache
from densessl.files.lock import BeingBuilt, is_held, lock_path, look
from densessl.images.image_list import ImageList
from densessl.images.range_survey import with_rule
from densessl.masks.build import make_masks
from densessl.masks.generator import MaskGenerator
from densessl.masks.metadata import INFO, describe, read_info, require_same_rule, spell
from densessl.masks.record import RECORD, changed_images, named, read_record, write_record
from densessl.masks.store import Masks, MaskStore, StoreMasks
from densessl.masks.tar_masks import TarMasks, masks_in_shards
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.plugins import load_plugins
from densessl.registry import MASK_GENERATORS

POLL = 0.5              # seconds between two looks at a store that another process builds


def store_for_training(images: ImageList, masks: dict[str, Any], *, is_builder: bool
                       ) -> tuple[Masks, ImageList]:
    """Find the masks of ``images``; if they do not exist yet, build them or wait for them.

    Args:
        images: what is trained on.
        masks: ``dict(type='name', …parameters)``, ``dict(store='folder')``, or both: then the
            folder is built if it is missing and must fit the parameters if it is there. It may
            be a folder of tar shards. Without ``store``, masks in the images' own shards must fit
            the parameters; those of other images are kept in :func:`cache_folder`.
        is_builder: whether this process builds what is missing (rank 0); the others wait.

    Returns:
        The masks, and those of ``images`` that have one: masks are read by positions in that list.

    Raises:
        UsageError: no such store, an unfinished one that ``masks`` does not say how to finish,
            one made with other parameters, images that have changed since and whose masks
            ``masks`` does not say how to make, or the builder failed.
    """
    found, root, generator = _asked_for(images, masks)
    if not (found and found.complete):
        if generator is None:
            raise UsageError(f'the masks in {root} are unfinished: run "densessl make_masks IMAGES '
                             f'{root}" again, it goes on where it stopped')
        if masks.get('store') is None and is_builder:
            require_cache()
        found = _build_or_wait(images, root, generator, is_builder)
    elif is_builder:
        found = _renew(found, masks)
    return _with_masks(found, say=is_builder)


def _renew(masks: Masks, asked: dict[str, Any]) -> Masks:
    """Make the masks of images again that have changed since theirs were made, as the store says
    that it was made; wait if another process does so."""
    while changed := changed_since(masks):
        if 'type' not in asked:
            raise said_changed(masks, changed)
        generator = _build({**masks.info['parameters'], 'type': asked['type']})
        try:
            make_masks(masks.images, masks.root, generator)
            return MaskStore(masks.root).of(masks.images)
        except BeingBuilt as error:
            print(f'{error}: waiting for it', file=sys.stderr)
            while is_held(lock_path(masks.root)):
                time.sleep(POLL)
        except UsageError as error:
            raise UsageError(f'{said_changed(masks, changed)} ({error})') from error
        masks = MaskStore(masks.root).of(masks.images)
    return masks


def changed_since(masks: Masks) -> list[int]:
    """The positions of the images that have changed, or what their regions are from, since their
    masks were made, by a look at each file; none of a store that does not know, such as one that
    others made or one in tar shards."""
    if not isinstance(masks, StoreMasks):
        return []
    images, positions = masks.images, range(len(masks.images))
    recorded = read_record(masks.root / RECORD, images, positions)
    before = recorded.copy()
    changed = changed_images(images, positions, recorded, generator_of(masks.info))
    if (recorded != before).any() and masks.info.get('digest') == images.digest():
        with suppress(UsageError):      # without the right to write, the bytes are compared again
            write_record(masks.root / RECORD, recorded, images.digest())
    return changed


def said_changed(masks: Masks, changed: list[int]) -> UsageError:
    """The error that images have changed since their masks were made, and which."""
    images, info = masks.images, masks.info
    values = [f'{name}={value}' for name, value in info['parameters'].items()]
    command = shlex.join(['make_masks', str(images.source), str(masks.root), '--generator',
                          info['generator'], *(['--set', *values] if values else [])])
    return UsageError(f'{len(changed)} of {len(images)} images, or what their regions are from, '
                      f'have changed since their masks in {masks.root} were made '
                      f'({named(images, changed)}); make their masks again: densessl {command}')


def settle_rule(images: ImageList, rule: PixelRule, folder: str | Path | None, *,
                say: bool = True) -> ImageList:
    """The images, to be read by ``rule``, measured if it has to be; where it leaves that open, as
    the images were read of which the masks in ``folder`` (or in the images' own shards) were made.

    Args:
        say: whether to say on stderr what is not as the user said.

    Raises:
        UsageError: as :func:`densessl.images.range_survey.with_rule`.
    """
    store_rule = PixelRule.of(_info_in(images, folder), str(folder or images.source))
    if store_rule != PLAIN and (rule == PLAIN or not rule.measured):
        rule = store_rule
        if say:
            print(f'densessl: images are read as they were for their masks, by {rule}',
                  file=sys.stderr)
    return with_rule(images, rule, say=say)


def _info_in(images: ImageList, folder: str | Path | None) -> dict[str, Any]:
    root = Path(folder).expanduser() if folder else None
    if root and (root / INFO).exists():
        return read_info(root)
    with suppress(UsageError):      # reported where those masks are needed
        if held := masks_in_shards(images, root):
            return held.info
    return {}


def existing_masks(images: ImageList, masks: dict[str, Any]
                   ) -> tuple[Masks | None, MaskGenerator | None]:
    """What there is of the masks that a config asks for, without building any: those that an
    earlier run has left, and the generator that makes the others.

    Raises:
        UsageError: they are refused as :func:`store_for_training` refuses them.
    """
    found, _, generator = _asked_for(images, masks)
    return found, None if isinstance(found, TarMasks) else generator


def _asked_for(images: ImageList, masks: dict[str, Any]
               ) -> tuple[Masks | None, Path, MaskGenerator | None]:
    """What there is of the masks that a config asks for, finished or not; where they are or would
    be; and what makes them, if the config says so."""
    parameters = dict(masks)
    folder = parameters.pop('store', None)
    generator = _build(parameters) if parameters else None
    found: Masks | None = masks_in_shards(images, folder)
    if found is not None:
        root = found.root
    elif folder is not None:
        root = Path(os.path.abspath(os.path.expanduser(folder)))
    elif generator is not None:
        root = cache_folder(images, generator)
    else:
        raise UsageError("masks must say how they are made, dict(type='NAME', …), or where they "
                         "are, dict(store='FOLDER')")
    if found is None and (generator is None or (root / INFO).exists()):
        found = MaskStore(root).of(images)
    if found is not None and generator is not None:
        _check_same(found, generator, parameters)
    return found, root, generator


def cache_folder(images: ImageList, generator: MaskGenerator) -> Path:
    """Where masks go that have no folder of their own, in
    :func:`densessl.files.folders.cache_root`. Other images, rules by which they are read,
    generators, parameters or versions have another folder; images whose files change under the
    same names have the same, in which their masks are made again."""
    read_by = [images.rule.record()] if images.rule != PLAIN else []
    key = json.dumps([str(images.root), images.digest(), describe(generator), *read_by],
                     sort_keys=True)
    digest = hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:12]
    return cache_root() / 'masks' / f'{images.root.name[:80] or "images"}-{digest}'


def _build(masks: dict[str, Any]) -> MaskGenerator:
    if 'type' not in masks:
        raise UsageError(f"masks have parameters ({', '.join(masks)}) but no type: write "
                         f"dict(type='NAME', …)")
    return MASK_GENERATORS.build(masks)


def generator_of(info: dict[str, Any]) -> MaskGenerator | None:
    """The generator that a store's ``info`` names, if its regions are from files; None if it is not
    installed or its files are not there, as on another machine."""
    load_plugins()
    cls = MASK_GENERATORS.module_dict.get(info.get('generator'), MaskGenerator)
    with suppress(UsageError, OSError):
        if cls.files_for is not MaskGenerator.files_for:
            return _build({**info['parameters'], 'type': info['generator']})
    return None


def open_masks(images: ImageList, folder: str | Path) -> Masks:
    """The masks of ``images`` in a mask store, finished or not, or in tar shards."""
    return masks_in_shards(images, folder) or MaskStore(os.path.expanduser(folder)).of(images)


def _check_same(masks: Masks, generator: MaskGenerator, given: dict[str, Any]) -> None:
    """Refuse a store that differs from what was ``given``; what was left open may differ."""
    wanted, stored = describe(generator), masks.info
    known = {name: stored.get('parameters', {}).get(name) for name in given if name != 'type'}
    if (stored.get('generator') != wanted['generator']
            or any(wanted['parameters'].get(name) != value for name, value in known.items())):
        raise UsageError(f'the masks in {masks.root} were made with {spell(stored)}, not '
                         f'{spell(wanted)}; leave the parameters out (--masks {masks.root}) or '
                         f'name another store (masks.store=FOLDER)')


def _build_or_wait(images: ImageList, root: Path, generator: MaskGenerator, is_builder: bool
                   ) -> Masks:
    if is_builder:
        print(f'building the masks of {len(images)} images, once, in {root}', file=sys.stderr)
        try:
            make_masks(images, root, generator)
            return MaskStore(root).of(images)
        except BeingBuilt as error:
            if getattr(multiprocessing.current_process(), '_inheriting', False):
                raise   # a worker of that builder, which runs a script without __main__ guard again
            print(f'{error}: waiting for it', file=sys.stderr)
    return _wait(root, images)


def _wait(root: Path, images: ImageList) -> Masks:
    """Wait until another process has built ``root``; notice when it failed or is gone."""
    first = last = look(lock_path(root))        # may be of an earlier run
    deadline = time.monotonic() + build_lock.PATIENCE
    while time.monotonic() < deadline:
        if (root / INFO).exists():
            masks = MaskStore(root).of(images)
            if masks.complete and masks.info.get('digest') == images.digest():
                return masks
        now = look(lock_path(root))
        if now and now != first and 'failed' in now[1]:
            raise UsageError(f'the masks in {root} were not built: {now[1]["failed"]}')
        if now != last:
            last, deadline = now, time.monotonic() + build_lock.PATIENCE
        time.sleep(POLL)
    reason = f' (the last try failed: {last[1]["failed"]})' if last and 'failed' in last[1] else ''
    raise UsageError(f'nobody has built masks in {root} for {build_lock.PATIENCE:.0f} s{reason}; '
                     f'can this process see the folder that rank 0 builds? If not, set '
                     f'DENSESSL_CACHE to a shared folder')


def _with_masks(masks: Masks, say: bool) -> tuple[Masks, ImageList]:
    """The masks, and the images that have one."""
    images = masks.images
    if 'generator' in masks.info:
        require_same_rule(masks.root, PixelRule.of(masks.info, str(masks.root)), images)
    keep = masks.having()
    if not len(keep):
        raise UsageError(f'{masks.root} has no mask of any image in {images.source}: '
                         f'{images.name(0)} would have {masks.where(0)}')
    if len(keep) == len(images):
        return masks, images
    if say:
        print(f'{len(images) - len(keep)} of {len(images)} images have no mask in {masks.root} '
              f'and are left out{masks.advice}', file=sys.stderr)
    kept = masks.select(keep)
    return kept, kept.images
