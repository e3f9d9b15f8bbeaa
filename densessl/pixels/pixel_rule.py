"""How stored values become 8-bit RGB: one rule for masks, views, probes, fine-tuning and pictures.

Values of up to 8 bits are shown as they are. Deeper ones need a range: unsigned integers have one
of their own, from 0 to the largest their bits can hold, which :attr:`PixelRule.value_range`
replaces; signed integers and floats have none and cannot be read without it.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from densessl.bounds import is_count, is_number
from densessl.errors import UsageError, refuse_value, shown

MINMAX, PERCENTILE = 'minmax', 'percentile'
KEYS = ('value_range', 'bands')
REMEDY = '--value-range LOW HIGH (or minmax, or percentile 1 99)'
_TAKES = "(low, high), 'minmax' or ('percentile', low, high)"
Range = tuple[float, float]


@dataclass(frozen=True)
class PixelRule:
    """What every reader of a data set's pixels has to agree on.

    Attributes:
        value_range: the stored values that become 0 and 255, in images of more than 8 bits; what
            lies outside is clipped. ``'minmax'`` and ``('percentile', low, high)`` are measured
            once (:mod:`densessl.images.range_survey`) and then are such a pair. None: the full
            range of the type.
        bands: numbers, from 1, of the bands of a TIFF that are red, green and blue; a single one
            is shown as gray. None: the first three.

    Raises:
        UsageError: neither is one of these.
    """

    value_range: Range | str | tuple[str, float, float] | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'value_range', _checked_range(self.value_range))
        object.__setattr__(self, 'bands', _checked_bands(self.bands))

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str = '') -> PixelRule:
        """The rule in a config or in provenance, which may be of a run that had none.

        Args:
            where: what the message calls the settings.
        """
        try:
            return cls(*(settings.get(key) for key in KEYS))
        except UsageError as error:
            raise UsageError(f'{where}: {error}' if where else str(error)) from error

    @property
    def measured(self) -> bool:
        """Whether the range is a pair of numbers, or the type's own."""
        return self.value_range is None or not isinstance(self.value_range[0], str)

    def record(self) -> dict[str, Any]:
        """What provenance, ``masks.json`` and configs say of it: nothing of the default."""
        return {key: list(value) if isinstance(value, tuple) else value for key in KEYS
                if (value := getattr(self, key)) is not None}

    def __str__(self) -> str:
        return ', '.join(f'{key} {_spelled(value)}' for key, value in self.record().items()
                         ) or 'the full range of their type'

    def choose(self, values: np.ndarray) -> np.ndarray:
        """(H, W, C) values of a TIFF → the (H, W, 1) or (H, W, 3) that are shown.

        Raises:
            ValueError: :attr:`bands` names one that is not there.
        """
        count = values.shape[2]
        if self.bands is None or count == 1:
            return values[..., :3 if count >= 3 else 1]
        if max(self.bands) > count:
            raise ValueError(f'bands={self.bands}, but it has {count} bands')
        return values[..., [band - 1 for band in self.bands]]

    def eight_bits(self, values: np.ndarray, bits: int, nodata: float | None = None) -> np.ndarray:
        """Scale values of any integer or float type to uint8.

        With a range it is round(255 · (v − low) / (high − low)), clipped to 0 … 255. NaN and
        ``nodata`` become 0, −inf 0 and +inf 255.

        Args:
            values: of more than 8 bits, or signed.
            bits: how many of an unsigned type the file uses.

        Raises:
            ValueError: no range, of values that have none of their own.
        """
        if self.value_range is None:
            if not has_own_range(values.dtype):
                raise ValueError(f'its values are {values.dtype.name}, whose range is not known: '
                                 f'give it with {REMEDY}')
            scaled = (values >> max(0, bits - 8)).astype(np.uint8)
        elif values.dtype == np.uint16:
            scaled = _table(*self.value_range)[values]
        else:
            low, high = self.value_range
            with np.errstate(over='ignore', invalid='ignore'):
                share = (values.astype(np.float64) - low) / (high - low)
            share = np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0)
            scaled = np.floor(255 * np.clip(share, 0, 1) + 0.5).astype(np.uint8)
        if nodata is not None and not math.isnan(nodata):
            scaled[values == nodata] = 0
        return scaled


def has_own_range(kind: np.dtype) -> bool:
    """Whether values of a type can be shown without a range being given."""
    return kind.kind == 'u' and kind.itemsize <= 2


@lru_cache(8)
def _table(low: float, high: float) -> np.ndarray:
    """(65536,) uint8: what each 16-bit value becomes."""
    share = (np.arange(65536) - low) / (high - low)
    return np.floor(255 * np.clip(share, 0, 1) + 0.5).astype(np.uint8)


def parse_range(words: Sequence[str] | None) -> Any:
    """The words after ``--value-range`` as :attr:`PixelRule.value_range`: ``0 4095``, ``minmax`` or
    ``percentile 1 99``."""
    if not words:
        return None
    return words[0] if len(words) == 1 else tuple(_number(word) for word in words)


def _number(word: str) -> float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    return word


def _checked_range(value: Any) -> Any:
    if value is None or value == MINMAX:
        return value
    listed = list(value) if isinstance(value, (list, tuple)) else []
    numbers = listed[1:] if listed[:1] == [PERCENTILE] else listed
    if len(numbers) != 2 or not all(map(is_number, numbers)):
        refuse_value('value_range', value, _TAKES)
    if not numbers[0] < numbers[1]:
        raise UsageError(f'value_range {shown(value)}: the second number must be above the first')
    if len(listed) == 3 and not 0 <= numbers[0] < numbers[1] <= 100:
        raise UsageError(f'value_range {shown(value)}: percentiles are from 0 to 100')
    return tuple(listed)


def _checked_bands(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(listed) not in (1, 3) or not all(is_count(band) and band > 0 for band in listed):
        refuse_value('bands', value, 'the numbers, from 1, of three bands or of one, such as '
                     '(3, 2, 1)')
    return tuple(listed)


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else f'({", ".join(str(part) for part in value)})'


PLAIN = PixelRule()
