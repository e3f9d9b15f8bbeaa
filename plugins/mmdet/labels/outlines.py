"""Outlines of objects as files have them: polygons and run-length masks, checked."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as rle

NO_OUTLINE = 'have no outline'
FEW_POINTS = 'have an outline of fewer than three points'
FAR = 'have an outline that reaches far out of their image'
OTHER_SIZE = 'have a run-length mask of another size than their image'
DAMAGED = 'have a run-length mask that cannot be decoded'
EMPTY = 'have a mask without a pixel'
_FAR = 10    # sides of the image: drawing a polygon takes memory for every pixel of its edges


def finite_numbers(values: Any) -> list[float] | None:
    """``values`` as numbers, those written as text too; None if one of them is not finite."""
    try:
        numbers = [value if type(value) in (int, float) else float(value) for value in values]
        return numbers if all(map(math.isfinite, numbers)) else None
    except (TypeError, ValueError, OverflowError):
        return None


def usable_outline(outline: Any, size: tuple[int, int]) -> tuple[Any, str]:
    """An outline as the libraries take it, and what is wrong with it in words ('' if nothing).

    Args:
        outline: polygons [[x1, y1, x2, y2, …], …], also one without the list around it or points
            as pairs; or run lengths {size, counts}, compressed or not.
        size: (H, W) of the image as displayed.

    Returns:
        The outline, or None with the reason. Parts of fewer than three points, and those that
        reach far out of the image, are left out.
    """
    if isinstance(outline, dict):
        return _runs(outline, size)
    if not isinstance(outline, list) or not outline:
        return None, NO_OUTLINE
    parts = [part for part in _parts(outline) if _is_polygon(part)]
    limit = _FAR * max(size)
    near = [part for part in parts if -limit <= min(part) and max(part) <= limit]
    return (near, '') if near else (None, FAR if parts else FEW_POINTS)


def _parts(outline: list[Any]) -> list[Any]:
    """The polygons in any nesting that is in use: numbers, points, or lists of either."""
    if not isinstance(outline[0], list):
        return [finite_numbers(outline)]
    if len(outline) > 2 and all(isinstance(part, list) and len(part) == 2 and not isinstance(
            part[0], list) for part in outline):
        return [finite_numbers([value for point in outline for value in point])]
    parts = []
    for part in outline:
        if isinstance(part, list) and part and isinstance(part[0], list):
            part = [value for point in part if isinstance(point, list) for value in point]
        parts.append(finite_numbers(part) if isinstance(part, list) else None)
    return parts


def _is_polygon(part: list[float] | None) -> bool:
    return part is not None and len(part) >= 6 and len(part) % 2 == 0


def _runs(outline: dict[str, Any], size: tuple[int, int]) -> tuple[Any, str]:
    counts, stated = outline.get('counts'), outline.get('size')
    if not isinstance(stated, list) or not counts or not isinstance(counts, (list, str)):
        return None, DAMAGED
    if tuple(stated) != tuple(size):
        return None, OTHER_SIZE
    if isinstance(counts, list) and not (
            all(type(count) is int and count >= 0 for count in counts)
            and sum(counts) == size[0] * size[1]):
        return None, DAMAGED
    try:
        mask = rle.decode(encoded(outline))
        written = rle.encode(mask)['counts'].decode()
        # what is written again otherwise is either damaged or has runs of no length
        whole = isinstance(counts, list) or written == counts or _pixels(counts) == mask.size
    except (ValueError, TypeError, KeyError, IndexError, UnicodeError):
        return None, DAMAGED
    return (None, DAMAGED) if not whole else (outline, '') if mask.any() else (None, EMPTY)


def _pixels(counts: str) -> int:
    """How many pixels compressed run lengths have in all: numbers of five bits a character, from
    the third on differences to the one before the last (pycocotools' ``rleFrString``)."""
    runs: list[int] = []
    at = 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(counts[at]) - 48
            value |= (bits & 0x1f) << shift
            more, at, shift = bool(bits & 0x20), at + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return sum(runs) if min(runs) >= 0 else -1


def box_around(outline: Any) -> list[float]:
    """(x, y, width, height) around an outline of :func:`usable_outline`."""
    if isinstance(outline, dict):
        return rle.toBbox(encoded(outline)).tolist()
    x, y = np.concatenate([np.asarray(part, float).reshape(-1, 2) for part in outline]).T
    return [x.min(), y.min(), x.max() - x.min(), y.max() - y.min()]


def area_inside(outline: Any, size: tuple[int, int]) -> float:
    """In pixels, as COCO's own files have it: of the polygons' union, drawn into the image."""
    if isinstance(outline, dict):
        return float(rle.area(encoded(outline)))
    return float(rle.area(rle.merge(rle.frPyObjects(outline, *size))))


def encoded(outline: dict[str, Any]) -> dict[str, Any]:
    """Run lengths in their compressed form."""
    return (rle.frPyObjects(outline, *outline['size']) if isinstance(outline['counts'], list)
            else outline)


def rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    """The polygon of a box."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
