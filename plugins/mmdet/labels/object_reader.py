"""One annotated object, whatever its spelling, brought into the form that MMDetection reads."""
from __future__ import annotations

import math
from typing import Any

from densessl_plugins.mmdet.labels.finding_log import FindingLog, as_flag
from densessl_plugins.mmdet.labels.outlines import (
    NO_OUTLINE,
    area_inside,
    box_around,
    finite_numbers,
    rectangle,
    usable_outline,
)

_OVER = 1.0    # pixels over the edge of the image that count as rounding


class ObjectReader:
    """Brings the objects of one image into the common form.

    Args:
        image: its entry, with the size as displayed. file: its path, for the log.
        in_shares: whether coordinates are shares of the image. masks: as of :func:`normalize`.
    """

    def __init__(self, image: dict[str, Any], file: str, in_shares: bool, masks: bool,
                 log: FindingLog) -> None:
        self.size = image['height'], image['width']
        self.file, self.in_shares, self.masks, self.log = file, in_shares, masks, log

    def read(self, one: dict[str, Any]) -> bool:
        """Change an annotation in place; whether it can be used."""
        problem = self._read_flags(one)
        outline, no_outline = self._outline(one)
        box, wrong = self._box(one, outline)
        problem = problem or wrong
        if problem or box is None:
            self.log.add(problem, self.file)
            return False
        one['bbox'] = box
        self._fill_area(one, outline)
        if outline is None:
            one.pop('segmentation', None)
            if self.masks:
                one['segmentation'] = rectangle(*box)
                if not one['iscrowd']:
                    self.log.add(f'{no_outline}: they neither train nor score', self.file)
                    one['iscrowd'] = 1
        else:
            one['segmentation'] = outline
        return True

    def _read_flags(self, one: dict[str, Any]) -> str:
        """``iscrowd`` and ``ignore`` become one number; what is wrong with them."""
        if one.get('iscrowd') is None:
            self.log.filled['iscrowd'] += 1
        flags = {key: as_flag(one.get(key)) for key in ('iscrowd', 'ignore')}
        for key, value in flags.items():
            if value is None:
                return f'have {key} {one[key]!r}, which must be 0 or 1'
        if isinstance(one.get('iscrowd'), str) or isinstance(one.get('ignore'), str):
            self.log.add('have iscrowd or ignore as text, read as a number', self.file, 'mended')
        one.pop('ignore', None)    # in training it would drop the object, in COCO's scores nothing
        one['iscrowd'] = max(flags.values())
        if one['iscrowd']:
            self.log.add('are marked as a crowd, as difficult or to be ignored: they neither train '
                         'nor score', self.file, 'expected')
        return ''

    def _outline(self, one: dict[str, Any]) -> tuple[Any, str]:
        if not one.get('segmentation'):
            return None, NO_OUTLINE
        outline, problem = usable_outline(one['segmentation'], self.size)
        if self.in_shares and isinstance(outline, list):
            height, width = self.size
            outline = [[value * (height if at % 2 else width) for at, value in enumerate(part)]
                       for part in outline]
        return outline, problem

    def _box(self, one: dict[str, Any], outline: Any) -> tuple[list[float] | None, str]:
        """(x, y, width, height) inside the image, or None and what is wrong."""
        height, width = self.size
        box, written = finite_numbers(one.get('bbox') or ()), bool(one.get('bbox'))
        if box is None or len(box) != 4:
            if outline is None:
                return None, ('have a box that is not four finite numbers' if written
                              else 'have neither a box nor an outline')
            box = box_around(outline)
            if written:
                self.log.add('have a box that is not four finite numbers; that around their '
                             'outline is taken', self.file, 'mended')
            else:
                self.log.filled['bbox'] += 1
        elif self.in_shares:
            box = [box[0] * width, box[1] * height, box[2] * width, box[3] * height]
            self.log.add('have a box in shares of the image (0 … 1), read as such', self.file,
                         'mended')
        if min(box[2:]) < 0:
            box = _turned(box)
            self.log.add('have a box of negative width or height, read from its other corner',
                         self.file, 'mended')
        return self._inside(box)

    def _inside(self, box: list[float]) -> tuple[list[float] | None, str]:
        """The part of a box that is inside the image."""
        (x, y, w, h), (height, width) = box, self.size
        right, bottom = min(x + w, width), min(y + h, height)
        left, top = max(x, 0), max(y, 0)
        if not w * h:
            return None, 'have no area'
        if w < 1 or h < 1:
            return None, 'are less than a pixel wide or high'
        if right <= left or bottom <= top:
            return None, 'lie outside their image'
        if max(left - x, top - y, x + w - right, y + h - bottom) > _OVER:
            self.log.add('reach out of their image; the part inside is taken', self.file, 'mended')
            box = [left, top, right - left, bottom - top]
            if min(box[2:]) < 1:
                return None, 'lie outside their image but for less than a pixel'
        return box, ''

    def _fill_area(self, one: dict[str, Any], outline: Any) -> None:
        area = finite_numbers([one.get('area')])
        if area is not None and area[0] > 0 and not self.in_shares:
            one['area'] = area[0]
            return
        if one.get('area') is not None and not self.in_shares:
            self.log.add('have an area that is not a positive number; that of their outline or '
                         'box is taken', self.file, 'mended')
        else:
            self.log.filled['area'] += 1
        one['area'] = (area_inside(outline, self.size) if outline else 0.0) or math.prod(
            one['bbox'][2:])


def _turned(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [min(x, x + w), min(y, y + h), abs(w), abs(h)]
