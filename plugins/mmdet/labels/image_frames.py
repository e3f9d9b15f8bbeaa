"""Sizes of images in annotation files beside those of the images as displayed, which is how the
libraries read them: which of the two the objects were drawn on."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from densessl.images.image_list import UnreadableImage, image_size
from densessl_plugins.mmdet.labels.finding_log import FindingLog
from densessl_plugins.mmdet.labels.outlines import finite_numbers

SLACK = 2    # pixels by which sizes and boxes may differ by rounding
TURNED = ('have the width and height of the image as stored, without its EXIF rotation; '
          'their objects are taken as drawn on the image as displayed')
RESIZED = 'have another size in the file than their image; that of the image is taken'
NO_SIZE = ('have a width or height in the file that is not a positive whole number; the size '
           'of the image is taken')
ON_STORED = 'are drawn on the image as stored, without its EXIF rotation'
ON_OTHER = 'are drawn on an image of another size than theirs'
UNSURE = 'are of an image of another size than the file says, and may be drawn on either'
_CACHED = 1 << 20


@dataclass
class Frame:
    """An image, its objects, and the two sizes (H, W) that they may be drawn on."""

    image: dict[str, Any]
    objects: Sequence[Mapping[str, Any]]
    written: tuple[int, int]
    displayed: tuple[int, int]

    @property
    def swapped(self) -> bool:
        return self.written == self.displayed[::-1]

    def fits(self, size: tuple[int, int]) -> bool:
        return all(_inside(one, size) for one in self.objects)

    def verdict(self) -> bool | None:
        """Whether the objects must be on the image as displayed; None if they may be on both."""
        displayed, written = self.fits(self.displayed), self.fits(self.written)
        return None if displayed == written else displayed


def settle_sizes(images: list[dict[str, Any]], objects: Mapping[Any, Sequence[dict[str, Any]]],
                 folder: Path, log: FindingLog, in_shares: bool = False
                 ) -> list[dict[str, Any]]:
    """Give ``images`` the sizes that they have as displayed, in place.

    Objects tell which frame a file with other sizes means: those that reach out of one of the two
    were drawn on the other. Where none does, the other images of the file decide; and where these
    do not either, a size with sides swapped is taken for that of the stored image, as written
    by tools that ignore EXIF data, with objects drawn on the displayed one, which people see.

    Args:
        objects: annotations by image id. folder: of the images.
        in_shares: whether objects are in shares of the image, which fit into any.

    Returns:
        The images whose objects are where they should be; the others are in ``log``, and so are
        those that cannot be read and of which the file gives no size.
    """
    frames: list[Frame] = []
    lost: set[int] = set()
    sizes = displayed_sizes(str(folder / one['file_name']) for one in images)
    for one, size in zip(images, sizes, strict=True):
        written = written_size(one)
        if isinstance(size, UnreadableImage):
            if written is None:
                leave_out(folder / one['file_name'], size, len(objects.get(one['id'], ())), log)
                lost.add(id(one))
                continue
            size = written
        stated = any(one.get(side) is not None for side in ('height', 'width'))
        one['height'], one['width'] = size
        if written is None:
            if stated:
                log.add(NO_SIZE, str(folder / one['file_name']), 'mended', 'images')
            else:
                log.filled['width and height'] += 1
        elif max(abs(a - b) for a, b in zip(written, size, strict=True)) > SLACK:
            frames.append(Frame(one, () if in_shares else objects.get(one['id'], ()), written,
                                size))
    lost |= {id(frame.image) for frame in _misplaced(frames, folder, log)}
    return [one for one in images if id(one) not in lost]


def _misplaced(frames: list[Frame], folder: Path, log: FindingLog) -> list[Frame]:
    lost = []
    for swapped, mended, fault in ((True, TURNED, ON_STORED), (False, RESIZED, ON_OTHER)):
        group = [frame for frame in frames if frame.swapped == swapped]
        verdicts = [frame.verdict() for frame in group]
        # images that cannot tell follow those that can
        unsure = (True not in verdicts and False in verdicts) if swapped else (
            True not in verdicts or False in verdicts)
        for frame, verdict in zip(group, verdicts, strict=True):
            file = str(folder / frame.image['file_name'])
            if not frame.objects or (verdict if verdict is not None else not unsure):
                log.add(mended, file, 'mended', 'images')
            else:
                words = UNSURE if verdict is None and not swapped else fault
                log.add(words, file, 'unusable', 'objects', len(frame.objects))
                log.add(f'have objects that {words}', file, 'unusable', 'images')
                lost.append(frame)
    return lost


def leave_out(image: str | Path, error: UnreadableImage, objects: int, log: FindingLog) -> None:
    """Note an image whose size is neither in a file of labels nor to be read from itself."""
    reason = ' '.join(error.reason.split())
    log.add(f'cannot be read: {reason}', str(image), 'unusable', 'images')
    log.add('are of images that cannot be read', str(image), 'unusable', 'objects', objects)


def written_size(one: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) as an image's entry says, also as text or 480.0; None if it says none."""
    found = finite_numbers([one.get('height'), one.get('width')])
    if found is None or min(found) < 1 or any(side % 1 for side in found):
        return None
    return int(found[0]), int(found[1])


def displayed_sizes(paths: Iterable[str]) -> list[tuple[int, int] | UnreadableImage]:
    """(H, W) of images as displayed, by their headers; the error where one cannot be read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_size, paths))


def _size(path: str) -> tuple[int, int] | UnreadableImage:
    try:
        state = os.stat(path)
        return _known_size(path, state.st_size, state.st_mtime_ns)
    except UnreadableImage as error:
        return error
    except OSError as error:
        return UnreadableImage(path, error.strerror)


@lru_cache(_CACHED)     # data sets are built more than once, and the metric reads the file, too
def _known_size(path: str, size: int, time: int) -> tuple[int, int]:
    return image_size(path)


def _inside(one: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether an object's box, polygons and mask keep inside an image of this size."""
    height, width = size
    outline = one.get('segmentation')
    if isinstance(outline, dict):
        return list(outline.get('size') or ()) == [height, width]
    box = finite_numbers(one.get('bbox') or ())
    if box is not None and len(box) == 4 and not (
            max(box[0], box[0] + box[2]) <= width + SLACK
            and max(box[1], box[1] + box[3]) <= height + SLACK):
        return False
    for part in outline if isinstance(outline, list) else ():
        points = finite_numbers(part) if isinstance(part, list) else None
        if points and (max(points[0::2]) > width + SLACK
                       or max(points[1::2], default=0) > height + SLACK):
            return False
    return True
