"""Annotations in PASCAL VOC's XML, as its development kit and LabelImg write them, in COCO's form.
"""
from __future__ import annotations

import codecs
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.parsers import expat

from densessl_plugins.mmdet.labels.finding_log import FindingLog, as_flag
from densessl_plugins.mmdet.labels.outlines import finite_numbers

_DECLARATION = re.compile(r'^\s*<\?xml[^>]*?(?:encoding\s*=\s*["\']([\w.-]+)["\'][^>]*)?\?>')
_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
_UNKNOWN = '\N{REPLACEMENT CHARACTER}'
_CACHED = 1 << 18


@dataclass(frozen=True)
class XmlObject:
    """An object: its class, COCO's box (x, y, width, height) and whether it is difficult."""

    name: str
    box: tuple[float, ...]
    difficult: bool


@dataclass(frozen=True)
class XmlLabels:
    """What one file says.

    Attributes:
        size: (H, W), the text as written; None if it is missing.
        mended, faults: words about its objects, one entry for each object concerned.
        broken: why nothing of the file can be read; '' if it can.
    """

    size: tuple[str | None, str | None] | None = None
    objects: tuple[XmlObject, ...] = ()
    mended: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    broken: str = ''


class _Refused(ValueError):
    pass


def read_xml(path: Path) -> XmlLabels:
    """Read an annotation file; what is wrong with it is in the result. Entities are never
    expanded and nothing outside the file is fetched."""
    state = os.stat(path)
    return _read(path, state.st_size, state.st_mtime_ns)


@lru_cache(_CACHED)     # data sets are built more than once
def _read(path: Path, size: int, time: int) -> XmlLabels:
    try:
        root = _parse(path.read_bytes())
    except (expat.ExpatError, ValueError, LookupError, OSError) as error:
        return XmlLabels(broken=' '.join(str(error).split()) or type(error).__name__)
    if root.tag != 'annotation':
        return XmlLabels(broken=f'its root is <{root.tag}> instead of <annotation>')
    found = _Objects()
    for one in root.iter('object'):
        found.read(one)
    sides = _text(root, 'size/height'), _text(root, 'size/width')
    return XmlLabels(sides if any(sides) else None, tuple(found.objects), tuple(found.mended),
                     tuple(found.faults))


def _parse(data: bytes) -> ET.Element:
    """The tree of a file in any encoding: the declared one, or that of its byte order mark, or
    UTF-8, in which what cannot be read becomes a replacement character."""
    data = data.lstrip(b' \t\r\n')
    try:
        return _tree(data)
    except _Refused:
        raise
    except (expat.ExpatError, ValueError):
        head = _DECLARATION.match(data[:200].decode('latin-1'))
        declared = head and head.group(1)
        try:
            text = data.decode(declared or 'utf-8')
        except (UnicodeError, LookupError):
            text = data.removeprefix(codecs.BOM_UTF8).decode('utf-8', 'replace')
        return _tree(_DECLARATION.sub('', text.lstrip('\ufeff')).strip())


def _tree(text: str | bytes) -> ET.Element:
    builder, parser = ET.TreeBuilder(), expat.ParserCreate()

    def refuse(*declared: Any) -> None:
        raise _Refused('it declares entities, which are not expanded')

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(text, True)
    return builder.close()


@dataclass
class _Objects:
    """The objects of one file as they are read."""

    objects: list[XmlObject] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read(self, one: ET.Element) -> None:
        written = one.findtext('name') or ''
        name = ' '.join(written.split())
        corners = [_text(one, f'bndbox/{corner}') for corner in _CORNERS]
        box = finite_numbers(corners)
        difficult = as_flag(one.findtext('difficult'))
        if not name:
            self.faults.append('have no name')
        elif _UNKNOWN in name:
            self.faults.append('have a name in an encoding that the file does not declare')
        elif box is None:
            self.faults.append('have no box' if not any(corners) else
                               'have a box that is not four finite numbers')
        elif difficult is None:
            self.faults.append('have a <difficult> that is neither 0 nor 1')
        else:
            if name != written:
                self.mended.append('have spaces around their name, which are left out')
            self.objects.append(XmlObject(name, self._box(box), bool(difficult)))

    def _box(self, corners: Sequence[float]) -> tuple[float, ...]:
        """COCO's box of the first and the last pixel, which VOC counts from 1."""
        (left, right), (top, bottom) = sorted(corners[0::2]), sorted(corners[1::2])
        if [left, top, right, bottom] != list(corners):
            self.mended.append('have xmin above xmax, or ymin above ymax; the two are exchanged')
        return left - 1, top - 1, right - left + 1, bottom - top + 1


def _text(element: ET.Element, path: str) -> str | None:
    return (element.findtext(path) or '').strip() or None


def xml_content(pairs: Sequence[tuple[Path, Path]], root: Path, log: FindingLog
                ) -> dict[str, Any]:
    """The annotations of ``pairs`` of an image and its XML file, as the content of a COCO JSON.
    Ids of images are their positions from 1 on.

    Args:
        root: the folder that the names of images are relative to.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read_xml, (label for _, label in pairs)))
    names = sorted({one.name for labels in found for one in labels.objects})
    ids = {name: number for number, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, ((image, label), labels) in enumerate(zip(pairs, found, strict=True), 1):
        for kind, words in (('mended', labels.mended), ('unusable', labels.faults)):
            for each in words:
                log.add(each, str(label), kind)
        if labels.broken:
            log.add(f'have annotations that cannot be read: {labels.broken}', str(label),
                    'unusable', 'images')
            continue
        one = {'id': number, 'file_name': os.path.relpath(image, root), 'xml': str(label)}
        if labels.size:
            one['height'], one['width'] = labels.size
        images.append(one)
        objects += [{'id': 0, 'image_id': number, 'category_id': ids[each.name],
                     'bbox': list(each.box), 'iscrowd': int(each.difficult),
                     'area': each.box[2] * each.box[3]} for each in labels.objects]
    for number, one in enumerate(objects, 1):
        one['id'] = number
    return {'images': images, 'annotations': objects,
            'categories': [{'id': number, 'name': name} for name, number in ids.items()]}
