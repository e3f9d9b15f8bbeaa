"""Faults that images with label maps have in the wild, to be planted into sound data sets of each
layout: rows of (name, what plants it, the file that a check must name, a word that it must say)."""
from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from densessl.cli import main

ORIENTATION = 0x0112
VOID = 255
LAYOUTS = ('folder', 'voc', 'cityscapes')
PLACES = {      # layout → image and label map of sample ``name`` of ``split``
    'folder': ('images/{split}/{name}.jpg', 'labels/{split}/{name}.png'),
    'voc': ('JPEGImages/{name}.jpg', 'SegmentationClass/{name}.png'),
    'cityscapes': ('leftImg8bit/{split}/town/{name}_leftImg8bit.png',
                   'gtFine/{split}/town/{name}_gtFine_labelIds.png'),
}
CITYSCAPES_IDS = np.array([7, 8, 11], np.uint8)


def draw(root: Path, layout: str, train: int = 16, val: int = 2) -> list[tuple[Path, Path]]:
    """Write a sound data set of three classes, 40 × 56 pixels, into ``root``.

    Returns:
        The images and label maps for training.
    """
    rng, pairs = np.random.default_rng(0), {}
    for split, number in (('train', train), ('val', val)):
        pairs[split] = []
        for i in range(number):
            name = f'{split}_{i:02d}'
            image, label = (root / place.format(split=split, name=name)
                            for place in PLACES[layout])
            ids = np.zeros((40, 56), np.uint8)
            ids[8:20, 8:30], ids[24:36, 10:50], ids[:2] = 1, 2, VOID
            values = np.where(ids == VOID, 0, CITYSCAPES_IDS[ids % 3]) \
                if layout == 'cityscapes' else ids
            for path, pixels in ((image, rng.integers(0, 256, (40, 56, 3))), (label, values)):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
            pairs[split].append((image, label))
    if layout == 'voc':
        lists = root / 'ImageSets/Segmentation'
        lists.mkdir(parents=True)
        for split, name in (('train', 'train'), ('train', 'train_aug'), ('val', 'val')):
            (lists / f'{name}.txt').write_text(''.join(f'{image.stem}\n'
                                                       for image, _ in pairs[split]))
    return pairs['train']


# -- faults ---------------------------------------------------------------------------------------

def change(path: Path, content: Callable[[np.ndarray], np.ndarray]) -> None:
    values = content(np.array(Image.open(path)))
    Image.fromarray(np.ascontiguousarray(values)).save(path)


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


def colored(ids: np.ndarray) -> np.ndarray:
    return np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)[ids % 3]


def turn(path: Path, orientation: int = 6) -> None:
    """The same stored pixels, displayed turned."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.open(path).convert('RGB').save(path, exif=exif)


def as_jpeg(path: Path) -> None:
    content = io.BytesIO()
    Image.open(path).save(content, 'JPEG')
    path.write_bytes(content.getvalue())


def only_jpeg(path: Path) -> None:
    as_jpeg(path)
    path.rename(path.with_suffix('.jpg'))


FAULTS = [      # name, plant(image, label map), which of the two is named, a word about it
    ('an id of no class', lambda i, m: change(m, lambda v: np.where(
        v == v[30, 30], 200, v).astype(np.uint8)), 'label', 'holds id 200 (21 % of its pixels)'),
    ('colors', lambda i, m: change(m, colored), 'label', '3 channels: it holds 3 colors'),
    ('ids three times', lambda i, m: change(m, lambda v: np.stack([v] * 3, -1)), 'label',
     'the first holds the ids'),
    ('16 bits', lambda i, m: change(m, lambda v: v.astype(np.uint16) * 257), 'label', '16 bits'),
    ('on its side', lambda i, m: change(m, np.transpose), 'label',
     '40×56 pixels, but its image is displayed at 56×40; it lies on its side'),
    ('half the size', lambda i, m: change(m, lambda v: v[::2, ::2]), 'label', '28×20 pixels'),
    ('as the photo is stored', lambda i, m: turn(i), 'label',
     '56×40 pixels, but its image is displayed at 40×56; it lies on its side'),
    ('nothing but void', lambda i, m: change(m, lambda v: np.full_like(v, VOID)), 'label',
     'has no pixel with a label'),
    ('no map', lambda i, m: m.unlink(), 'image', 'has no label map'),
    ('a JPEG as map', lambda i, m: as_jpeg(m), 'label', 'is a JPEG, whose compression'),
    ('a JPEG instead of a map', lambda i, m: only_jpeg(m), 'image', '.jpg is there, whose compr'),
    ('a cut map', lambda i, m: cut(m), 'label', 'cannot be read'),
    ('half an image', lambda i, m: cut(i), 'image', 'missing'),
    ('text as image', lambda i, m: i.write_text('no image'), 'image', 'not an image'),
    ('an empty image', lambda i, m: i.write_bytes(b''), 'image', 'the file is empty'),
    ('no image', lambda i, m: i.unlink(), 'either', ''),
]


def plant(pairs: list[tuple[Path, Path]]) -> list[tuple[str, str, str]]:
    """Plant a fault of each kind; (name, path or paths of which one is named, word) of each."""
    planted = []
    for (image, label), (name, spoil, which, word) in zip(pairs, FAULTS, strict=True):
        spoil(image, label)
        paths = {'image': [image], 'label': [label], 'either': [image, label]}[which]
        planted.append((name, [str(path) for path in paths], word))
    return planted


def run_check(config, root, capsys, *more):
    code = main(['check', config, '--data-root', str(root), *more])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.strip().splitlines()
