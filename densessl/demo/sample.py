"""The built-in sample on disk: drawn scenes with label maps, and COCO annotations of objects and of
all segments.

``writing.json`` marks a begun sample and becomes ``classes.json`` when it is complete, so that a
killed run is completed by the next call.
"""
from __future__ import annotations

import json
import os
import re
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2

from densessl.demo.sample_coco import (
    instances_json,
    objects,
    panoptic_json,
    panoptic_map,
    panoptic_segments,
)
from densessl.demo.scenes import CLASSES, DRAWING, PALETTE, THINGS, draw_scene
from densessl.files.json_files import json_object
from densessl.files.writing import flush_everything, is_leftover, write_atomically

FILES = 2  # raise it when other files are written: samples written before are then redone
SPLIT_LIMIT = 1_000_000  # scenes a split can have before its seeds run into the next split's

_OURS = re.compile(
    r'((unlabelled|images/(train|val))/\d{5,}\.jpg|labels/(train|val)/\d{5,}\.png'
    r'|annotations/(instances|panoptic)_(train|val)\.json|(classes|writing)\.json'
    r'|annotations/panoptic_(train|val)/\d{5,}\.png)'
)

# Flushed all at once, at the end.
_write = partial(write_atomically, flush=False)


def write_scenes(
    root: Path, *, unlabelled: int, train: int, val: int,
    size: tuple[int, int] = (160, 160), seed: int = 0, workers: int = 1,
) -> Path:  # fmt: skip
    """Write a sample: unlabelled pictures, and two labeled splits with label maps and COCO JSON.

    A complete sample of the same request is kept as it is, an interrupted one is completed, one of
    another request is replaced. One process may write to `root` at a time.

    Args:
        root: `unlabelled/`, `images/`, `labels/`, `annotations/` and `classes.json` go here.
        unlabelled, train, val: scenes in each split; no scene is in two splits.
        size: (H, W) in pixels.
        seed: 0 or more; samples of different seeds share no scene.
        workers: processes to draw with; the result does not depend on it.

    Returns `root`. Raises ValueError for a count or seed out of range, and when `root` holds files
    that are not part of such a sample (nothing is changed then).
    """
    root, counts = Path(root), {'unlabelled': unlabelled, 'train': train, 'val': val}
    request = _request(counts, size, seed)
    if _request_in(root / 'classes.json') == request:
        return root
    _claim(root, request)
    one_thread = {'initializer': cv2.setNumThreads, 'initargs': (1,)}
    pool = partial(ProcessPoolExecutor, workers, get_context('spawn'), **one_thread)
    with pool() if workers > 1 else nullcontext() as executor:
        run = partial(executor.map, chunksize=8) if executor else map
        for number, (split, count) in enumerate(counts.items()):
            first_seed = (seed * len(counts) + number) * SPLIT_LIMIT
            write = partial(_write_scene, root, split, tuple(size), first_seed)
            written = list(run(write, range(count)))
            if split != 'unlabelled':
                for kind, coco in (('instances', instances_json([one for one, _ in written], size)),
                                   ('panoptic', panoptic_json([one for _, one in written], size))):
                    _write(root / 'annotations' / f'{kind}_{split}.json', json.dumps(coco).encode())
    flush_everything()     # it vouches for all of them
    os.replace(root / 'writing.json', root / 'classes.json')
    return root


def _request(counts: dict[str, int], size: tuple[int, int], seed: int) -> dict:
    """What makes one sample differ from another, as it reads back from JSON."""
    if seed < 0 or not all(0 <= count < SPLIT_LIMIT for count in counts.values()):
        raise ValueError(f'seed={seed}, {counts}: need seed ≥ 0 and counts in 0..{SPLIT_LIMIT - 1}')
    drawing = {'classes': CLASSES, 'things': THINGS, 'palette': PALETTE, 'drawing': DRAWING,
               'files': FILES}
    return json.loads(json.dumps({**drawing, 'seed': seed, 'size': size, **counts}))


def _claim(root: Path, request: dict) -> None:
    """Leave in `root` only complete files of this very request, marked as being written."""
    files = [path for path in sorted(root.rglob('*')) if not path.is_dir()]
    found = _request_in(root / 'classes.json') or _request_in(root / 'writing.json')
    for path in files:
        is_ours = found is not None and _OURS.fullmatch(path.relative_to(root).as_posix())
        if not is_ours and not is_leftover(path.name):
            raise ValueError(
                f'{path} is not part of a built-in sample, so {root} is left as it is; '
                'choose an empty folder, or move that file away'
            )
    if found != request:
        _write(root / 'writing.json', b'{"drawing": null}')  # ours, but of no request
        (root / 'classes.json').unlink(missing_ok=True)  # before any other: it vouches for them
        for path in files:
            if path.name != 'writing.json':
                path.unlink(missing_ok=True)
    _write(root / 'writing.json', json.dumps(request, indent=1).encode())


def _request_in(path: Path) -> dict | None:
    """The request a marker holds; None if it is absent or not ours."""
    request = json_object(path)
    return request if request and 'drawing' in request else None


def _write_scene(
    root: Path, split: str, size: tuple[int, int], first_seed: int, index: int
) -> tuple[list[dict], list[dict]]:
    """Write one scene; return its objects and its segments, for the COCO files (none for unlabelled
    ones)."""
    name = f'{index:05d}'
    if split == 'unlabelled' and (root / split / f'{name}.jpg').exists():
        return [], []
    scene = draw_scene(first_seed + index, size=size)
    folder = root / split if split == 'unlabelled' else root / 'images' / split
    picture = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    _write(folder / f'{name}.jpg', jpeg.tobytes())
    if split == 'unlabelled':
        return [], []
    colors = panoptic_map(scene)
    for folder, image in ((root / 'labels' / split, scene.labels),
                          (root / 'annotations' / f'panoptic_{split}', colors[..., ::-1])):
        _write(folder / f'{name}.png', cv2.imencode('.png', image)[1].tobytes())
    return objects(scene), panoptic_segments(colors)
