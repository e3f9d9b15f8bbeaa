"""What one part of the labelled data holds, and what of it the library's own data set will use."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from densessl.errors import UsageError
from densessl.labels.label_ids import MapMeaning

_SHOWN = 3    # files by name
_OF_ONE = {'are': 'is', 'have': 'has', 'lie': 'lies', 'reach': 'reaches', 'mark': 'marks'}
Kind = Literal['unusable', 'mended', 'expected']


@dataclass(frozen=True)
class Finding:
    """One way in which objects or images are not used, or not read, as they are written.

    Attributes:
        words: what they do, to follow their number: ``lie outside their image``.
        files: the file of each of them, in the data's order; one that has several occurs as often.
        kind: ``unusable``: annotated, but not used (a fault of the data); ``mended``: used, in
            the one sense that was plain; ``expected``: left aside by the rules of the format or
            of the config, as crowds and images without objects are.
        unit: what is counted, in the plural.
    """

    words: str
    files: tuple[str, ...]
    kind: Kind = 'unusable'
    unit: str = 'objects'

    def __str__(self) -> str:
        number = len(self.files)
        return f'{number} {self._agreeing(number)} ({named_files(self.files)})'

    def sentence(self) -> str:
        """With what is counted: ``8 objects lie outside their image (a.jpg, …)``."""
        return f'{self._counted(len(self.files))} ({named_files(self.files)})'

    def by_file(self) -> Iterator[tuple[str, str]]:
        """Each file with what is to be said of it, to follow its name: ``: 2 objects lie outside
        their image``, or ``is smaller than …`` where it is the file itself."""
        for path, number in Counter(self.files).items():
            yield path, (f': {self._counted(number)}' if self.unit == 'objects'
                         else f' {self._agreeing(1)}')

    def _counted(self, number: int) -> str:
        unit = self.unit.removesuffix('s') if number == 1 else self.unit
        return f'{number} {unit} {self._agreeing(number)}'

    def _agreeing(self, number: int) -> str:
        verb, space, rest = self.words.partition(' ')
        return (_OF_ONE.get(verb, verb) if number == 1 else verb) + space + rest


@dataclass(frozen=True)
class DataReport:
    """One part of the data: what its files hold, and what is used once the library built it.

    Attributes:
        split: ``train`` or ``val``.
        source: the file or folder of its labels, for messages.
        images, objects: numbers in the files; ``objects`` is None where images have label maps.
        used_images, used_objects: numbers that the library's data set holds.
        findings: how the two differ, and what was read otherwise than written.
        samples: the files of each used image: the image, and its label map if there is one.
        maps: what the ids in the label maps mean. segments: of panoptic maps, the ids that each
            must hold, by its path.
        per_class: used objects by class name.
        label_files: in which the labels are, beside the maps of ``samples``.
    """

    split: str
    source: str
    images: int
    used_images: int
    objects: int | None = None
    used_objects: int | None = None
    findings: tuple[Finding, ...] = ()
    samples: tuple[tuple[str, ...], ...] = ()
    maps: MapMeaning | None = None
    segments: Mapping[str, frozenset[int]] | None = None
    per_class: Mapping[str, int] | None = None
    label_files: tuple[str, ...] = ()

    def of_kind(self, kind: Kind) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def lines(self) -> list[str]:
        """What is used of how much, and every finding, in words; one line each."""
        counts = f'{self.used_images} of {self.images} images'
        if self.objects is not None:
            counts += f' and {self.used_objects} of {self.objects} objects'
        lines = [f'{self.split}: {counts} of {self.source} are used']
        for unit in dict.fromkeys(one.unit for one in self.of_kind('unusable')):
            found = [one for one in self.of_kind('unusable') if one.unit == unit]
            number = sum(len(one.files) for one in found)
            total = {'images': self.images, 'objects': self.objects}.get(unit)
            of_all = '' if total is None else f' of {total}'
            units = unit.removesuffix('s') if number == 1 and total is None else unit
            lines.append(f'{self.split}: {number}{of_all} {units} cannot be used: '
                         f'{", ".join(map(str, found))}')
        return lines + [f'{self.split}: {one.sentence()}'
                        for kind in ('mended', 'expected') for one in self.of_kind(kind)]

    def require_usable(self) -> None:
        """Raise UsageError, with the reasons, if no image or no object is left."""
        nothing = ('image' if not self.used_images
                   else 'object' if self.used_objects == 0 else None)
        if nothing:
            reasons = [one.sentence() for one in self.findings if one.kind != 'mended']
            raise UsageError(f'{self.source} holds no {nothing} that can be used for {self.split}'
                             f'{": " if reasons else ""}{", ".join(reasons)}')


def named_files(files: Iterable[str]) -> str:
    """The first files by name, each once, and that there are more."""
    names = [Path(one).name for one in dict.fromkeys(files)]
    return ', '.join(names[:_SHOWN]) + (', …' if len(names) > _SHOWN else '')
