"""Labelled objects of any layout, read in one form: that of COCO's files, normalized. What a data
set trains on, what a metric scores by and what a check counts come through this one door."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.labels.data_root import missing_files
from densessl_plugins.mmdet.labels.annotations import (
    Content,
    arrange_categories,
    class_names,
    normalize,
    read_annotations,
)
from densessl_plugins.mmdet.labels.finding_log import FindingLog
from densessl_plugins.mmdet.labels.label_files import drawn, labelled_images
from densessl_plugins.mmdet.labels.xml_labels import xml_content
from densessl_plugins.mmdet.labels.yolo_labels import yolo_content


@dataclass(frozen=True)
class LabelSource:
    """Where labels are; plain values, so that a config can hold it.

    Attributes:
        layout: ``coco`` (a JSON file), ``xml`` (PASCAL VOC's, also LabelImg's) or ``yolo``.
        images: the folder that the names of images are relative to.
        labels: a JSON file; or folders of ``(images, label files, list or '')``.
        part: ``train`` or ``val`` of what is to be divided by hash; '' for all of it.
        names: of the classes in the order of their numbers, for ``yolo``.
        classes: in the order of their labels; those that occur if empty.
        masks: whether every object must have an outline.
    """

    layout: str
    images: str
    labels: str | Sequence[Sequence[str]]
    part: str = ''
    names: Sequence[str] | None = None
    classes: Sequence[str] = ()
    masks: bool = False

    @classmethod
    def of(cls, given: LabelSource | Mapping[str, Any]) -> LabelSource:
        return given if isinstance(given, LabelSource) else cls(**given)

    def config(self) -> dict[str, Any]:
        """As a config holds it."""
        return {key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(self).items()}

    def using(self, **changes: Any) -> LabelSource:
        return replace(self, **changes)

    @property
    def place(self) -> str:
        """The file or folder of the labels, for messages."""
        return self.labels if isinstance(self.labels, str) else self.labels[0][1]

    def files(self) -> tuple[str, ...]:
        """The label files of images, those of the other part among them if they lie together."""
        if isinstance(self.labels, str):
            return (self.labels,)
        suffix = '.xml' if self.layout == 'xml' else '.txt'
        return tuple(str(label) for _, label, _ in _labelled(self, suffix, FindingLog()) if label)


@dataclass
class Labels:
    """What was read.

    Attributes:
        content: in COCO's form, normalized. images, objects: numbers in the files.
        log: what was noticed.
        by_image: number of objects in the content by the path of the image, those that are to be
            ignored aside. sizes: (H, W) by the path of the image.
    """

    content: Content
    images: int
    objects: int
    log: FindingLog
    by_image: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def classes(self) -> list[str]:
        return class_names(self.content)

    def counted(self) -> Labels:
        """The same without the content, which may be large."""
        return replace(self, content={})


def load_labels(source: LabelSource) -> Labels:
    """Read and normalize the labels of one part of a data set.

    Raises:
        UsageError: what is there is not in its format, or names files that are not there.
    """
    log = FindingLog()
    content = _READERS[source.layout](source, log)
    lost = sum(len(one.files) for one in log.findings() if one.kind == 'unusable'
               and one.unit == 'objects')
    labels = Labels(content, len(content['images']) + sum(
        len(one.files) for one in log.findings() if one.unit == 'images'),
        len(content['annotations']) + lost, log)
    normalize(content, Path(source.images), log, source.masks)
    arrange_categories(content, source.classes or class_names(content), Path(source.images), log)
    paths = {one['id']: os.path.join(source.images, one['file_name'])
             for one in content['images']}
    counts = Counter(paths[one['image_id']] for one in content['annotations']
                     if not one['iscrowd'])
    labels.by_image = {path: counts[path] for path in paths.values()}
    labels.sizes = {paths[one['id']]: (one['height'], one['width']) for one in content['images']}
    return labels


def _coco(source: LabelSource, log: FindingLog) -> Content:
    path, folder = Path(source.labels), Path(source.images)
    content = read_annotations(path)
    images, objects = content['images'], content['annotations']
    if not images or not objects:
        raise UsageError(f'{path} lists {len(images)} images with {len(objects)} annotations; '
                         f'there must be some of both')
    if source.part:
        chosen = drawn([Path(one['file_name']).stem for one in images], source.part)
        content['images'] = [one for one, use in zip(images, chosen, strict=True) if use]
        other = {str(one['id']) for one, use in zip(images, chosen, strict=True) if not use}
        content['annotations'] = [one for one in objects if str(one['image_id']) not in other]
    _find_files(content['images'], folder)
    missing_files([folder / one['file_name'] for one in content['images']], path)
    return content


def _find_files(images: list[Content], folder: Path) -> None:
    """Where the images are if their names have folders in front that are not there, as those of
    exports from other machines have; in place."""
    inside = set(os.listdir(folder)) if folder.is_dir() else set()
    for one in images:
        plain = one['file_name'].replace('\\', '/').rpartition('/')[2]
        if plain in inside and plain != one['file_name'] and not (
                folder / one['file_name']).exists():
            one['file_name'] = plain


def _xml(source: LabelSource, log: FindingLog) -> Content:
    pairs = []
    for image, label, listed in _labelled(source, '.xml', log):
        if label is not None:
            pairs.append((image, label))
        elif source.part != 'val':      # images without labels are in neither part; reported once
            log.add('have no XML file', str(image), 'unusable' if listed else 'expected',
                    'images')
    return xml_content(_part(pairs, source), Path(source.images), log)


def _yolo(source: LabelSource, log: FindingLog) -> Content:
    pairs = [(image, label) for image, label, _ in _labelled(source, '.txt', log)]
    return yolo_content(_part(pairs, source), Path(source.images), source.names, log)


def _labelled(source: LabelSource, suffix: str, log: FindingLog
              ) -> Iterator[tuple[Path, Path | None, bool]]:
    """Each image, its label file if there is one, and whether a list names it."""
    for images, labels, listed in source.labels:
        for pair in labelled_images(Path(images), Path(labels), suffix,
                                    Path(listed) if listed else None,
                                    FindingLog() if source.part == 'val' else log):
            yield *pair, bool(listed)


def _part(pairs: list[tuple[Path, Any]], source: LabelSource) -> list[tuple[Path, Any]]:
    if not pairs:
        raise UsageError(f'{source.place} holds no labels of images in {source.images}')
    if not source.part:
        return pairs
    chosen = drawn([image.stem for image, _ in pairs], source.part)
    return [pair for pair, use in zip(pairs, chosen, strict=True) if use]


_READERS = {'coco': _coco, 'xml': _xml, 'yolo': _yolo}
