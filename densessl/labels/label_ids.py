"""Label maps: how one is read, what its values mean, and what can be wrong with it; in one place
for all that read them."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from densessl.files.opening import open_regular
from densessl.pixels.label_image import read_label_image

IGNORED = 255    # the class index that losses and metrics leave out
UNKNOWN = -1     # in a lookup: no class has this id
_JPEG = b'\xff\xd8\xff'


class UnusableMap(ValueError):
    """A file that does not hold what it must; the message does not name the file."""


def read_stored(path: str | Path, exact: bool = False) -> np.ndarray:
    """As :func:`~densessl.pixels.label_image.read_label_image`.

    Raises:
        UnusableMap: not an image, damaged, or compressed with loss. FileNotFoundError.
    """
    if not Path(path).exists():
        raise FileNotFoundError(path)
    try:
        with open_regular(path) as file:
            if file.read(3) == _JPEG:
                raise UnusableMap('is a JPEG, whose compression changes the ids along every edge; '
                                  'make the label maps again, as PNG')
        return read_label_image(path, exact)
    except UnusableMap:
        raise
    except (OSError, ValueError) as error:
        raise UnusableMap(f'cannot be read: {getattr(error, "strerror", None) or error}') from error


def read_ids(path: str | Path) -> np.ndarray:
    """(H, W) uint8 ids of a label map.

    Raises:
        UnusableMap: as :func:`read_stored`, or it holds something other than ids up to 255.
        FileNotFoundError.
    """
    values = read_stored(path, exact=True)
    if values.ndim != 2:
        raise UnusableMap(_about_colors(values))
    if values.dtype.kind == 'f' and not (values == np.rint(values)).all():
        raise UnusableMap('holds fractions instead of ids')
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > 255:
        raise UnusableMap(f'holds ids from {lowest:g} to {highest:g} '
                          f'({values.dtype.itemsize * 8} bits a pixel), but ids are 0 to 255; '
                          f'number the classes anew and save one byte per pixel')
    return values.astype(np.uint8)


def read_segments(path: str | Path) -> np.ndarray:
    """(H, W) int64 ids of the segments of a panoptic map: R + 256 G + 65536 B.

    Raises:
        UnusableMap: as :func:`read_stored`, or it is not in color. FileNotFoundError.
    """
    values = read_stored(path)
    if values.ndim != 3 or values.shape[2] < 3 or values.dtype != np.uint8:
        raise UnusableMap('is not in color: a panoptic map holds each segment’s id as '
                          'R + 256 G + 65536 B')
    return values[..., :3].astype(np.int64) @ (1, 256, 65536)


def _about_colors(values: np.ndarray) -> str:
    """What an image with bands holds instead of ids, and what to do."""
    bands = values.shape[2]
    color = values[..., :3] if bands > 2 else values[..., :1]
    if (color == color[..., :1]).all():
        return (f'has {bands} channels, of which the first holds the ids; save that one alone '
                f'(Pillow: image.getchannel(0))')
    found, times = np.unique(color.reshape(-1, 3), axis=0, return_counts=True)
    often = tuple(found[times.argmax()].tolist())
    return (f'has {bands} channels: it holds {len(found)} colors, such as {often}, instead of '
            f'class ids; a palette was applied, or it is a picture; put each color’s class id in '
            f'its place and save one channel')


@dataclass(frozen=True)
class LabelOptions:
    """How a user says what ids mean, in the words of the command; '' if there is no way.

    Attributes:
        ignore: that an id has no label; the id follows. binary: that 255 is the second class.
    """

    ignore: str = ''
    binary: str = ''


NO_OPTIONS = LabelOptions()


@dataclass(frozen=True)
class MapMeaning:
    """What the ids in the label maps of a data set mean.

    Attributes:
        names: of the classes.
        lookup: for each id 0 … 255 its class index, :data:`IGNORED` or :data:`UNKNOWN`.
        options: how a user says otherwise.
        given: whether the classes were named; else they are the ids that occur.
    """

    names: tuple[str, ...]
    lookup: tuple[int, ...]
    options: LabelOptions = NO_OPTIONS
    given: bool = True

    @classmethod
    def of(cls, names: Iterable[str], ids: Mapping[int, int],
           options: LabelOptions = NO_OPTIONS, *, given: bool = True) -> MapMeaning:
        """Of ids that are class indices, except those in ``ids`` (id → class index)."""
        names = tuple(names)
        lookup = [*range(min(len(names), 256)), *[UNKNOWN] * (256 - len(names))]
        for value, index in ids.items():
            lookup[value] = index
        return cls(names, tuple(lookup), options, given)

    @property
    def ids(self) -> dict[int, int]:
        """The class index of those ids that are not their own, for :meth:`of`."""
        return {value: index for value, index in enumerate(self.lookup)
                if index == IGNORED or index not in (value, UNKNOWN)}

    @cached_property
    def table(self) -> np.ndarray:
        """(256,) uint8 class indices; unknown ids have no label."""
        return np.array([IGNORED if one == UNKNOWN else one for one in self.lookup], np.uint8)

    def pixels(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Class index (:data:`IGNORED`, :data:`UNKNOWN`) → pixels, of id → pixels."""
        found: dict[int, int] = {}
        for value, number in counts.items():
            found[self.lookup[value]] = found.get(self.lookup[value], 0) + number
        return found

    def fault(self, counts: Mapping[int, int]) -> str | None:
        """What is wrong with the ids of a map, in words; None if each has a meaning.

        Args:
            counts: id → pixels.
        """
        unknown = sorted(value for value in counts if self.lookup[value] == UNKNOWN)
        if not unknown:
            return None
        share = 100 * sum(counts[value] for value in unknown) / sum(counts.values())
        shown = ', '.join(map(str, unknown[:5])) + (', …' if len(unknown) > 5 else '')
        ignore, binary = self.options.ignore, self.options.binary
        hint = (f'; masks of 0 and 255: {binary}' if binary and set(counts) <= {0, 255}
                else f'; if it marks pixels without a label: {ignore}{unknown[0]}'
                if ignore else '')
        return (f'holds id {shown} ({share:.2g} % of its pixels), which none of the '
                f'{len(self.names)} classes has{hint}')

    def is_binary(self, ids: Iterable[int]) -> bool:
        """Whether ``ids``, of all maps together, are those of masks in black and white, of which
        the white has no label here."""
        return set(ids) == {0, 255} and self.lookup[255] == IGNORED
