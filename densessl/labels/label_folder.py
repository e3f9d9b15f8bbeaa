"""A folder of images with PNG label maps: which map is whose, and what the ids mean."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densessl.bounds import allows, whole
from densessl.errors import UsageError, shown
from densessl.files.json_files import parse_json
from densessl.images.find import names_below
from densessl.images.image_list import EXTENSIONS
from densessl.labels.data_root import SPLITS, require
from densessl.labels.file_facts import MISSING, open_files
from densessl.labels.label_ids import IGNORED, LabelOptions, MapMeaning

LAYOUT = 'images/{train,val}/NAME.jpg (or .png …) and labels/{train,val}/NAME.png'
LabelId = whole(0, 255)
COLORS = Sequence[tuple[LabelId, LabelId, LabelId]]
Pair = tuple[Path, Path]


@dataclass(frozen=True)
class PixelLabels:
    """Images with label maps.

    Attributes:
        root: their folder. pairs: images and label maps by split.
        meaning: of the ids in the label maps. strays: label maps without an image, by split.
        palette: ``{'palette': [[r, g, b]]}`` if there is one.
    """

    root: Path
    pairs: dict[str, list[Pair]]
    meaning: MapMeaning
    strays: dict[str, list[str]] = field(default_factory=dict)
    palette: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.meaning.names)


@dataclass(frozen=True)
class LabelLayout:
    """How a public data set lays out images and label maps.

    Attributes:
        name: of the data set.
        parts: the folders that it is recognized by; the first two hold images and label maps.
        read: what lists the images with their label maps below such a folder, opening neither.
        below: where those folders may be, below what users name.
    """

    name: str
    parts: tuple[str, ...]
    read: Callable[[Path], PixelLabels]
    below: tuple[str, ...] = ('',)

    def folders(self, root: Path) -> list[Path]:
        return [root / part for part in self.below]


def label_pairs(images: Path, labels: Path) -> Iterator[Pair]:
    """Each image below ``images`` with its label map: the same name below ``labels``, as PNG."""
    for image in visible_files(images, EXTENSIONS):
        yield image, (labels / image.relative_to(images)).with_suffix('.png')


def stray_labels(labels: Path, used: Iterable[Path]) -> list[str]:
    """The label maps below ``labels`` that no image has."""
    known = set(used)
    return [str(path) for path in visible_files(labels, {'.png'}) if path not in known]


def visible_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files below ``folder``, if it is there, of :func:`~densessl.images.find.names_below`, in
    order."""
    names = names_below(folder, suffixes) if folder.is_dir() else ()
    return sorted(folder / os.fsdecode(name) for name in names)


def ignored_ids(ignore: Any) -> set[int]:
    """The ids of pixels without label, from an id, a list of ids or None."""
    values = [] if ignore is None else ignore if isinstance(ignore, (list, tuple)) else [ignore]
    if not allows(list[LabelId], values):
        raise UsageError(f'labels.ignore must be an id from 0 to 255 or a list of such, not '
                         f'{ignore!r}')
    return set(values)


def id_map(given: Any, option: str) -> dict[int, int]:
    """``{id in the files: id that is meant}`` of pairs or of such a dict, checked."""
    try:
        found = dict(given or {})
        right = allows(Mapping[LabelId, LabelId], found) and (
            isinstance(given, Mapping) or len(found) == len(given or ()))
    except (TypeError, ValueError):
        right = False
    if not right:
        raise UsageError(f'{option} must be pairs of ids from 0 to 255, [[in the files, meant], …] '
                         f'such as [[255, 1]], each id in the files once, not {given!r}')
    return found


def read_label_folder(root: Path, ignore: Any, options: LabelOptions,
                      moved: Mapping[int, int] | None = None) -> PixelLabels:
    """Find the images, label maps and classes below ``root``.

    The classes are those of ``root/classes.json`` (``{"classes": [names], "palette":
    [[r, g, b]]}``) where it is there, else the ids that occur, in their order. Label maps that
    cannot be used are left to :func:`~densessl.labels.data_check.check_data`, which names all.

    Args:
        ignore: the id, or list of ids, of pixels without label.
        moved: id in the files → id that is meant.

    Raises:
        UsageError: a folder is missing or empty, or there are not two classes.
    """
    require([f'{kind}/{split}' for kind in ('images', 'labels') for split in SPLITS], root,
            f'expected are {LAYOUT}')
    pairs = {split: list(label_pairs(root / 'images' / split, root / 'labels' / split))
             for split in SPLITS}
    for split, found in pairs.items():
        if not found:
            raise UsageError(f'{root / "images" / split} holds no images (.jpg, .png, .tif …)')
    ignored, moved = ignored_ids(ignore), dict(moved or {})
    named = root / 'classes.json'
    if named.is_file():
        names, palette = _read_classes(named)
        used, present = list(range(len(names))), set(range(256))
    else:
        used, present = _used_ids(root, pairs, ignored, moved, options)
        names, palette = [f'class {value}' for value in used], {}
    indices = {value: index for index, value in enumerate(used)} | dict.fromkeys(ignored, IGNORED)
    ids = {value: indices[meant] for value in sorted(present)
           if (meant := moved.get(value, value)) in indices}
    meaning = MapMeaning.of(names, ids, options, given=named.is_file())
    return PixelLabels(root, pairs, meaning, palette=palette)


def _used_ids(root: Path, pairs: Mapping[str, Sequence[Pair]], ignored: set[int],
              moved: Mapping[int, int], options: LabelOptions) -> tuple[list[int], set[int]]:
    """The ids of the classes that occur in the label maps that can be read, in their order; and
    all ids that occur."""
    labels = [str(label) for found in pairs.values() for _, label in found]
    facts = open_files(((label, 'ids') for label in labels), root, what='reading label maps')
    present = {value for one in facts.values() for value in one.counts or ()}
    meant = {moved.get(value, value) for value in present}
    used = sorted(meant - ignored)
    if len(used) < 2:
        spoilt = next((f'; {label} {facts[label].wrong}' for label in labels
                       if facts[label].wrong not in (None, MISSING)), '')
        hint = f'; masks of 0 and 255: {options.binary}' if present == {0, 255} else spoilt
        raise UsageError(f'the label maps in {root / "labels"} hold {len(used)} class (ids {used}, '
                         f'without label: {sorted(meant & ignored) or "none"}); at least two are '
                         f'needed{hint}')
    return used, present


def _read_classes(path: Path) -> tuple[list[str], dict[str, Any]]:
    try:
        content = parse_json(path.read_text(encoding='utf-8-sig'))
        palette = content.get('palette')
        names = class_names(content['classes'] if 'classes' in content else {
            key: value for key, value in content.items() if key != 'palette'})
        # a library that gets text in its place takes it for a file or an address, and reads it
        if palette not in (None, []) and not (allows(COLORS, palette)
                                              and len(palette) == len(names)):
            raise ValueError(f'palette must be one [r, g, b] of 0 to 255 for each of the '
                             f'{len(names)} classes, not {shown(palette)}')
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{path} must be {{"classes": [names …]}}, {{"0": "name", …}} or '
                         f'{{"name": 0, …}}: {error}') from error
    return names, {'palette': palette} if palette else {}


def class_names(given: Any) -> list[str]:
    """The names of classes in the order of their ids, from a list of names, or from a mapping of
    ids to names or of names to ids. An id that is not named is ``class ID``.

    Raises:
        ValueError, TypeError: it is none of these.
    """
    if isinstance(given, Mapping):
        by_id = ({int(key): name for key, name in given.items()}
                 if all(key.isdecimal() for key in given)
                 else {number: name for name, number in given.items()})
        if len(by_id) < len(given) or not all(type(number) is int and 0 <= number < 256
                                              for number in by_id):
            raise ValueError('each class must have an id of its own, from 0 to 255')
        given = [by_id.get(number, f'class {number}') for number in range(max(by_id, default=-1)
                                                                          + 1)]
    if not isinstance(given, list) or not given or not all(isinstance(name, str)
                                                           for name in given):
        raise TypeError('classes must be a list of names')
    return list(given)
