"""Files of label maps, drawn from annotations in COCO's format."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from densessl.errors import UsageError
from densessl.files.json_files import write_json
from densessl.files.writing import write_atomically
from densessl.labels.coco_pixels import Labelled, find_coco_files, read_coco_pixels
from densessl.pixels import label_png


def draw_label_maps(data: Path, out: Path, classes: Sequence[str] | None = None) -> dict[str, int]:
    """Draw a label map for every image that the annotations list.

    Args:
        data: with ``annotations/instances_{train,val}*.json`` and the images beside them.
        out: gets ``images/SPLIT`` (links), ``labels/SPLIT`` and ``classes.json``.
        classes: names of the categories that count, in the order of their ids from 1; all if None.

    Returns:
        The number of images of each split.

    Raises:
        UsageError: annotations or images are missing or damaged, or there is no such category.
    """
    files = find_coco_files(data)
    if not files:
        raise UsageError(f'{data} has no annotations/instances_train….json and …_val….json')
    names, train = read_coco_pixels(files['train'], classes)
    read = {'train': train, 'val': read_coco_pixels(files['val'], names[1:])[1]}    # ids of train
    for split, labelled in read.items():
        _draw_split(out, split, labelled)
    write_json(out / 'classes.json', {'classes': names})
    return {split: len(labelled) for split, labelled in read.items()}


def _draw_split(out: Path, split: str, labelled: Labelled) -> None:
    folder = os.path.commonpath([path.parent for path, _ in labelled])
    for path, draw in labelled:
        name = os.path.relpath(path, folder).replace(os.sep, '-')
        write_atomically((out / 'labels' / split / name).with_suffix('.png'),
                         label_png.encode(draw()), flush=False)
        link = out / 'images' / split / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        os.symlink(os.path.abspath(path), link)
