"""The range of a data set's values: measured once, before any of its pixels are used, on images
spread evenly over the list, so that the same list gives the same range on every machine."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_list import ImageList
from densessl.pixels.decode import UnreadableImage, deep_values
from densessl.pixels.pixel_rule import MINMAX, REMEDY, PixelRule, has_own_range

LOOK, MEASURE = 64, 256     # images: to find out whether any is deep, and what its values are
_NAMES = 20_000             # of which those are chosen
_VALUES = 20_000            # of an image, for percentiles
_DEEP = ('.png', '.apng', '.tif', '.tiff', '.pgm', '.ppm', '.pnm', '.jp2')
_DARK = 1 / 2               # of the full range: values that stay below it want another


@dataclass
class _Seen:
    """Values of one kind: of how many images, from where to where, and some of them.

    Attributes:
        full: what is shown as white without a range; None if they have no range of their own.
    """

    kind: str
    full: int | None
    images: int = 0
    low: float = np.inf
    high: float = -np.inf
    some: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray, nodata: float | None) -> None:
        """Count an image; of its values those that are finite and no "no data"."""
        self.images += 1
        values = values[np.isfinite(values) & (values != nodata)]
        if len(values):
            self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
            self.some.append(values[::-(-len(values) // _VALUES)])


def with_rule(images: ImageList, rule: PixelRule, *, say: bool = True) -> ImageList:
    """The images, to be read by ``rule``, of which ``'minmax'`` and percentiles become numbers.

    Args:
        say: whether to say on stderr what a range would be needed for.

    Raises:
        UsageError: no image can be read without a range, or none can be measured.
    """
    if rule.measured and rule.value_range is not None:
        return replace(images, rule=rule)
    seen, looked, whole = _look(images, rule)
    if rule.value_range is None:
        for line in _warnings(seen.values(), looked, whole):
            if say:
                print(f'densessl: {line}', file=sys.stderr)
    else:
        rule = replace(rule, value_range=_measured(seen.values(), rule.value_range, images))
        if say and rule.value_range is not None:
            print(f'densessl: {rule}, of {sum(one.images for one in seen.values())} images that '
                  f'were looked at', file=sys.stderr)
    return replace(images, rule=rule)


def _look(images: ImageList, rule: PixelRule) -> tuple[dict[Any, _Seen], int, bool]:
    """What kinds of deep values there are, in how many images that were looked at, and whether all
    images of the list are of formats that can have them."""
    step = -(-len(images) // _NAMES) or 1
    likely = [i for i in range(0, len(images), step) if images.name(i).lower().endswith(_DEEP)]
    seen: dict[Any, _Seen] = {}
    few = _spread(likely, LOOK)
    looked = _add(images, few, rule, seen)
    if seen:
        done = set(few)
        looked += _add(images, [i for i in _spread(likely, MEASURE) if i not in done], rule, seen)
    return seen, looked, len(likely) * step >= len(images)


def _add(images: ImageList, positions: Iterable[int], rule: PixelRule, seen: dict[Any, _Seen]
         ) -> int:
    looked = 0
    for i in positions:
        try:
            found = deep_values(images.where(i), images.data(i), rule)
        except UnreadableImage:
            continue               # the reader reports it
        looked += 1
        if found is not None:
            values, full, nodata = found
            key = values.dtype.name, full
            seen.setdefault(key, _Seen(*key)).add(values, nodata)
    return looked


def _spread(positions: list[int], count: int) -> list[int]:
    chosen = np.linspace(0, len(positions) - 1, min(count, len(positions))).round().astype(int)
    return [positions[i] for i in np.unique(chosen)]


def _measured(seen: Iterable[_Seen], asked: Any, images: ImageList) -> tuple[float, float] | None:
    """(low, high) as asked for; None if no image has more than 8 bits."""
    parts = [one for one in seen if one.some]
    if not parts:
        return None
    if asked == MINMAX:
        low, high = min(one.low for one in parts), max(one.high for one in parts)
    else:
        values = np.concatenate([sample.astype(np.float64) for one in parts for sample in one.some])
        low, high = np.percentile(values, asked[1:])
    if not low < high:
        raise UsageError(f'value_range {asked!r}: all values that were looked at in '
                         f'{images.source} are {low}; give numbers, --value-range LOW HIGH')
    return _number(low), _number(high)


def _warnings(seen: Iterable[_Seen], looked: int, whole: bool) -> Iterable[str]:
    for one in seen:
        span = f'from {_spelled(one.low)} to {_spelled(one.high)}' if one.some else 'that are none'
        words = f'{one.images} of {looked} images looked at hold {one.kind} values {span}'
        if not has_own_range(np.dtype(one.kind)):
            if whole and one.images == looked:
                raise UsageError(f'{words}, whose range is not known: give it with {REMEDY}')
            yield f'{words}, whose range is not known, and cannot be read: give it with {REMEDY}'
        elif one.some and one.full is not None and one.high < _DARK * one.full:
            yield (f'{words} of the 0 to {one.full} that they could have, and are read almost '
                   f'black: give their range with {REMEDY}')


def _number(value: np.generic) -> float:
    number = value.item()
    return int(number) if number == int(number) else number


def _spelled(value: Any) -> str:
    return f'{float(value):g}' if isinstance(value, np.floating) else str(value)
