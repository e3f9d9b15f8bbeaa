"""Which of the layouts that people have labelled objects in a folder has."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.images.image_list import EXTENSIONS
from densessl.images.told_by_names import holds_labels
from densessl_plugins.mmdet.labels.annotations import read_annotations
from densessl_plugins.mmdet.labels.label_files import files_by_stem, year_folders, year_lists
from densessl_plugins.mmdet.labels.label_source import LabelSource
from densessl_plugins.mmdet.labels.yolo_labels import (
    NAME_FILES,
    name_file,
    read_data_file,
    yolo_names,
)

KNOWN = (
    'COCO (annotations/instances_{train,val}.json and images/{train,val}/, or with COCO’s own '
    'names instances_train2017.json, train2017/ …; or one JSON file and images); PASCAL VOC (a '
    'VOCdevkit with VOC2007/, VOC2012/ or another year: Annotations/, ImageSets/Main/, '
    'JPEGImages/); XML files beside images or in a folder of their own (LabelImg); YOLO '
    '(images/{train,val}/ and labels/{train,val}/NAME.txt, data.yaml or classes.txt)')
Configured = dict[str, dict[str, str]]    # split → key → path, as the config has them
PARTS = {'train': ('train', 'training'), 'val': ('val', 'valid', 'validation', 'test')}
_FOLDERS = ('', 'annotations', 'labels', 'train', 'val', 'valid', 'validation', 'test')
_NOT_OBJECTS = re.compile(r'caption|keypoint|panoptic|stuff|image_info|deprecated', re.I)
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_SPECIAL = ('data.yaml', 'classes.json', 'masks.json', 'package.json')


@dataclass(frozen=True)
class FoundLayout:
    """The labels of both parts, and what the layout is called."""

    words: str
    train: LabelSource
    val: LabelSource

    @classmethod
    def of(cls, words: str, train: LabelSource, val: LabelSource | None = None) -> FoundLayout:
        """Of one source for both parts, which is to be divided, if there is no ``val``."""
        if val is not None:
            return cls(words, train, val)
        return cls(f'{words}, divided by the hash of the names: about one image of five is for '
                   f'validation', train.using(part='train'), train.using(part='val'))


def find_layout(root: Path, configured: Configured) -> FoundLayout:
    """What is below ``root``.

    Args:
        configured: by split, what the config calls its JSON file (``ann_file``) and its folder of
            images (``img``); they come first.

    Raises:
        UsageError: none of the known layouts; the message lists them.
    """
    if not root.is_dir():
        raise UsageError(f'no folder {root}; expected is one of these layouts: {KNOWN}')
    found = _coco(root, configured) or _devkit(root) or _yolo(root) or _xml(root)
    if found is not None:
        return found
    raise UsageError(f'{root} has no annotations in a known layout. Known are: {KNOWN}')


# -- COCO ---------------------------------------------------------------------------------------

def _coco(root: Path, configured: Configured) -> FoundLayout | None:
    named = {split: name for split in PARTS for name in [configured.get(split, {}).get('ann_file')]
             if name and (root / name).is_file()}
    files = named if len(named) == len(PARTS) else {**_json_files(root), **named}
    if 'train' not in files:
        return None
    sources = {split: LabelSource(
                   'coco', str(_image_folder(root, path, split, configured)), str(path))
               for split, name in files.items() for path in [root / name]}
    words = 'COCO' + ('' if 'val' in sources else f', the one file {files["train"]}')
    return FoundLayout.of(words, sources['train'], sources.get('val'))


def _json_files(root: Path) -> dict[str, str]:
    """The files of both parts, by their names; of one for both under ``train``."""
    found = [path.relative_to(root).as_posix() for folder in _FOLDERS
             for path in sorted((root / folder).glob('*.json'))
             if not _NOT_OBJECTS.search(path.name) and not path.name.startswith('.')
             and path.name not in _SPECIAL]
    found.sort(key=lambda name: 'instances' not in name)
    parts = {split: next((name for word in words for name in found if _names(word, name)), None)
             for split, words in PARTS.items()}
    if parts['train'] is None and len(found) == 1 and _is_coco(root / found[0]):
        parts = {'train': found[0]}
    return {split: name for split, name in parts.items() if name and _is_coco(root / name)}


def _names(word: str, name: str) -> bool:
    """Whether a path speaks of a part: ``instances_val2017.json``, ``valid/annotations.json``."""
    return re.search(rf'(?<![a-z]){word}(?![a-z])', name.lower()) is not None


def _is_coco(path: Path) -> bool:
    with path.open('rb') as file:
        start = file.read(1 << 16)
    # in a larger file the keys may be anywhere; the reader says what it is
    return len(start) == 1 << 16 or all(key in start for key in (b'"images"', b'"annotations"'))


def _image_folder(root: Path, path: Path, split: str, configured: Configured) -> Path:
    """Where the images of a JSON are: the first folder that has one that it names."""
    tried = [root / name for name in _image_folders(split, configured)]
    others = [word for other, words in PARTS.items() if other != split for word in words]
    tried += [path.parent, root, path.parent / 'images', *sorted(
        folder for base in (root, root / 'images') if base.is_dir()
        for folder in base.iterdir() if folder.is_dir() and not folder.name.startswith('.')
        and not any(_names(word, folder.name) for word in others))]   # names may occur in both
    tried.sort(key=lambda folder: holds_labels(folder.name))    # these come last
    names = _first_names(path)
    for shorten in (False, True):
        for folder in tried:
            for name in names:
                if name and (folder / (Path(name).name if shorten else name)).is_file():
                    return folder
    shown = ', '.join(dict.fromkeys(_image_folders(split, {})))
    raise UsageError(f'{root} has no images that {path.relative_to(root)} names'
                     f'{f", such as {names[0]}" if names else ""}; looked in {shown} and in the '
                     f'other folders of {root}')


def _first_names(path: Path) -> list[str]:
    """Names of a few images in a JSON, from its beginning if they are there: it may be large."""
    with path.open('rb') as file:
        found = _FILE_NAME.findall(file.read(1 << 20))[:20]
    try:
        names = [json.loads(one) for one in found]
    except ValueError:      # not UTF-8; the reader says so
        names = []
    names = names or [one['file_name'] for one in read_annotations(path)['images'][:20]]
    return [name.replace('\\', '/') for name in names]


def _image_folders(split: str, configured: Configured) -> list[str]:
    name = configured.get(split, {}).get('img')
    return ([name] if name else []) + [
        pattern.format(word) for word in PARTS[split]
        for pattern in ('{}2017', 'images/{}', 'images/{}2017', '{}/images', '{}')]


# -- PASCAL VOC ---------------------------------------------------------------------------------

def _devkit(root: Path) -> FoundLayout | None:
    parts: dict[str, list[list[str]]] = {'train': [], 'val': []}
    years = year_folders(root)
    for year in years:
        for split, listed in zip(parts, year_lists(year), strict=True):
            if listed:
                parts[split].append([str(year / 'JPEGImages'), str(year / 'Annotations'), listed])
    if not parts['train']:
        return None
    train, val = (LabelSource('xml', str(root), parts[split]) if parts[split] else None
                  for split in parts)
    return FoundLayout.of(f'PASCAL VOC ({", ".join(year.name for year in years)})', train, val)


# -- XML files and YOLO -------------------------------------------------------------------------

def _xml(root: Path) -> FoundLayout | None:
    """XML files beside images or in a folder of their own, divided into parts or not."""
    pairs = {split: pair for split, words in PARTS.items()
             for pair in [_folders(root, words, '.xml')] if pair}
    if 'train' in pairs:
        sources = {split: LabelSource('xml', str(root), [pair]) for split, pair in pairs.items()}
        return FoundLayout.of('XML files', sources['train'], sources.get('val'))
    labels = next((folder for folder in _flat(root) if _has(folder, {'.xml'})), None)
    images = next((folder for folder in (labels, *_flat(root)) if folder
                   and _has(folder, EXTENSIONS)), None)
    if labels is None or images is None:
        return None
    where = 'beside the images' if images == labels else f'in {labels.name}/'
    return FoundLayout.of(f'XML files {where}', LabelSource(
        'xml', str(root), [[str(images), str(labels), '']]))


def _flat(root: Path) -> Iterator[Path]:
    """``root``, then the folders in it, those of images first."""
    yield root
    if root.is_dir():
        yield from sorted((one for one in root.iterdir() if one.is_dir()
                           and not one.name.startswith('.')),
                          key=lambda one: ('image' not in one.name.lower(), one.name))


def _has(folder: Path, suffixes: Any) -> bool:
    return any(path.suffix.lower() in suffixes and not path.name.startswith('.')
               for path in folder.iterdir() if path.is_file()) or bool(
        folder.name.lower() in ('images', 'annotations', 'labels', 'xml')
        and files_by_stem(folder, suffixes))


def _folders(root: Path, words: Sequence[str], suffix: str) -> list[str] | None:
    """The folders of images and labels of a part: ``images/train`` and ``labels/train``,
    ``train/images`` and ``train/labels``, or ``train`` for both."""
    for word in words:
        for images, labels in ((f'images/{word}', f'labels/{word}'),
                               (f'images/{word}', f'annotations/{word}'),
                               (f'{word}/images', f'{word}/labels'),
                               (f'{word}/images', f'{word}/annotations'), (word, word)):
            if (root / images).is_dir() and (root / labels).is_dir() and _label_files(
                    root / labels, suffix):
                return [str(root / images), str(root / labels), '']
    return None


def _label_files(folder: Path, suffix: str) -> list[Path]:
    return [paths[0] for paths in files_by_stem(folder, {suffix}).values() if paths[0].name not in (
        *NAME_FILES, 'train.txt', 'val.txt', 'test.txt', 'README.txt')]


def _yolo(root: Path) -> FoundLayout | None:
    parts = {split: pair for split, words in PARTS.items() for pair in [
        _in_yaml(root, split) or _folders(root, words, '.txt')] if pair}
    if 'train' in parts:
        sources = {split: LabelSource('yolo', str(root), [pair], names=yolo_names(root))
                   for split, pair in parts.items()}
        return FoundLayout.of('YOLO', sources['train'], sources.get('val'))
    for images, labels in (('images', 'labels'), ('.', 'labels'), ('.', '.')):
        if (root / images).is_dir() and (root / labels).is_dir() and (
                name_file(root) or labels == 'labels') and _label_files(root / labels, '.txt'):
            return FoundLayout.of('YOLO', LabelSource(
                'yolo', str(root), [[str(root / images), str(root / labels), '']],
                names=yolo_names(root)))
    return None


def _in_yaml(root: Path, split: str) -> list[str] | None:
    """The folders of a part that a data.yaml names, below ``root`` whatever it says of others."""
    path = next((root / name for name in NAME_FILES[:3] if (root / name).is_file()), None)
    content = read_data_file(path) if path else {}
    named = content.get(split)
    if not isinstance(named, str):
        return None
    parts = [part for part in Path(named).parts if part not in ('.', '..')]
    for start in range(max(1, len(parts) - 1)):      # a last part alone tells no split
        images = root.joinpath(*parts[start:])
        at = next((i for i in reversed(range(start, len(parts))) if parts[i] == 'images'), None)
        if images.is_dir() and at is not None:
            labels = root.joinpath(*parts[start:at], 'labels', *parts[at + 1:])
            if labels.is_dir():
                return [str(images), str(labels), '']
    return None
