"""Files of label maps, drawn from annotations in COCO's format."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from densessl.errors import UsageError
from densessl.files.json_files import json_object, write_json
from densessl.files.writing import write_atomically
from densessl.images.image_list import ImageList, distinct_keys
from densessl.labels.coco_pixels import Labelled, find_coco_files, read_coco_pixels
from densessl.pixels import label_png

DRAWN_BY = 'densessl make_label_maps'


def draw_label_maps(data: Path, out: Path, classes: Sequence[str] | None = None) -> dict[str, int]:
    """Draw a label map for every image that the annotations list.

    Args:
        data: with ``annotations/instances_{train,val}*.json`` and the images beside them.
        out: gets ``images/SPLIT`` (links), ``labels/SPLIT`` and ``classes.json``, by which a later
            call knows what it may replace.
        classes: names of the categories that count, in the order of their ids from 1; all if None.

    Returns:
        The number of images of each split.

    Raises:
        UsageError: annotations or images are missing or damaged, there is no such category, two
            images would share a label map, or other files are in the way: nothing is written then.
    """
    files = find_coco_files(data)
    if not files:
        raise UsageError(f'{data} has no annotations/instances_train….json and …_val….json')
    names, train = read_coco_pixels(files['train'], classes)
    read = {'train': train, 'val': read_coco_pixels(files['val'], names[1:])[1]}    # ids of train
    places = {split: _places(out, split, labelled) for split, labelled in read.items()}
    _require_room(out, [path for pairs in places.values() for pair in pairs for path in pair])
    # without classes, nobody reads the folder before it is complete
    write_json(out / 'classes.json', {'drawn_by': DRAWN_BY}, shared=True)
    for split, labelled in read.items():
        for (path, draw), (link, label) in zip(labelled, places[split], strict=True):
            write_atomically(label, label_png.encode(draw()), flush=False)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            os.symlink(path, link)
    write_json(out / 'classes.json', {'classes': names, 'drawn_by': DRAWN_BY})
    return {split: len(labelled) for split, labelled in read.items()}


def _places(out: Path, split: str, labelled: Labelled) -> list[tuple[Path, Path]]:
    """Where the link to each image and its label map go."""
    folder = os.path.commonpath([path.parent for path, _ in labelled])
    names = [path.relative_to(folder) for path, _ in labelled]
    distinct_keys(ImageList.of(Path(folder), Path(folder), [os.fsencode(name) for name in names]),
             lambda name: os.path.splitext(name)[0], 'share the label map {}.png')
    return [(out / 'images' / split / name, (out / 'labels' / split / name).with_suffix('.png'))
            for name in names]


def _require_room(out: Path, places: Sequence[Path]) -> None:
    """Raise UsageError if a file is in the way that an earlier call for ``out`` did not write."""
    named = out / 'classes.json'
    own = (json_object(named) or {}).get('drawn_by') == DRAWN_BY
    taken = [path for path in (named, *places) if os.path.lexists(path) and not (
        own and (path.is_symlink() or not path.is_relative_to(out / 'images')))]
    if taken:
        raise UsageError(f'{taken[0]} is there already and is not known to be '
                         f'of {DRAWN_BY} ({len(taken)} in all): remove it if it is, or name '
                         f'another folder for the label maps')
