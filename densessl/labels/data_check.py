"""The pass before training: every labelled file that will be used is opened, and what would end
the run, or be learnt wrongly, is reported before anything is trained."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from densessl.errors import UsageError
from densessl.labels.data_report import DataReport
from densessl.labels.file_facts import MISSING, FileFacts, FileKind, open_files
from densessl.labels.label_ids import IGNORED, MapMeaning
from densessl.pixels.pixel_rule import PLAIN, PixelRule

SHOWN = 5     # files, each in a line of its own
_MANY = 10    # label maps, of which it can be said what is usual
_ENDINGS = '.PNG .jpg .jpeg .JPG .tif .tiff .bmp .gif .webp .npy .mat'.split()


@dataclass(frozen=True)
class FileFault:
    """A file, and what is wrong or odd about it, in words that follow its name."""

    path: str
    words: str

    def __str__(self) -> str:
        return f'{self.path} {self.words}'


@dataclass
class DataCheck:
    """What the pass found.

    Attributes:
        opened: number of files.
        faults: what ends a run, or would be learnt wrongly.
        doubtful: label maps that say nothing, or hold an id that hardly any other one holds.
        odd: files that are used, read in a way that the user should know of.
        pixels: split → class index → pixels, where there are label maps.
    """

    opened: int = 0
    faults: list[FileFault] = field(default_factory=list)
    doubtful: list[FileFault] = field(default_factory=list)
    odd: list[FileFault] = field(default_factory=list)
    pixels: dict[str, Counter[int]] = field(default_factory=dict)

    def require_usable(self) -> None:
        """Raise UsageError, with the first faults, if there are any."""
        if self.faults:
            raise UsageError('\n  '.join([
                f'{len(self.faults)} of the {self.opened} labelled files cannot be used (densessl '
                f'check lists all; --no-check does without this):',
                *first_of(self.faults)]))

    def warnings(self) -> list[str]:
        """Lines about what does not end a run."""
        return [*first_of(self.odd), *first_of(self.doubtful)]


def first_of(found: Sequence[FileFault]) -> list[str]:
    """The first :data:`SHOWN` in a line each, and how many more there are."""
    more = len(found) - SHOWN
    return [*map(str, found[:SHOWN]), *([f'and {more} more'] if more > 0 else [])]


def check_data(reports: Iterable[DataReport], drawn: Collection[str] | None = None, *,
               rule: PixelRule = PLAIN, progress: bool = True) -> DataCheck:
    """Open the files of each used image.

    Args:
        reports: one for each part of the data.
        drawn: the training images that a run uses; None: all.
        rule: by which images are read. progress: whether a bar is shown.
    """
    used = [(report, [sample for sample in dict.fromkeys(report.samples)
                      if (report.split != 'train' or drawn is None or sample[0] in drawn)
                      and not any('://' in path for path in sample)])     # not on this machine
            for report in reports]
    kinds: dict[str, FileKind] = {}
    for report, samples in used:
        for image, *maps in samples:
            kinds[image] = 'image'
            kinds.update(dict.fromkeys(maps, _kind_of_maps(report)))
    facts = open_files(kinds.items(), rule=rule, what='opening labelled files', progress=progress)
    check = DataCheck(len(facts))
    for report, samples in used:
        owners: dict[tuple[str, str], str] = {}
        for image, *maps in samples:
            _judge_image(image, facts, check)
            for label in maps:
                _judge_map(image, label, report, facts, check)
                other = owners.setdefault((label, os.path.splitext(image)[0]), image)
                if other != image:
                    check.faults.append(FileFault(image, f'has the label map of {other}, too; '
                                                         f'rename one of them or remove it'))
        _judge_all(report, [label for _, *maps in samples for label in maps], facts, check)
    _judge_rare(used, facts, check)
    for name in ('faults', 'doubtful', 'odd'):       # a file may be in several parts
        setattr(check, name, list(dict.fromkeys(getattr(check, name))))
    return check


def _kind_of_maps(report: DataReport) -> FileKind:
    return ('segments' if report.segments is not None else
            'ids' if report.maps is not None else 'map')


def _judge_image(image: str, facts: Mapping[str, FileFacts], check: DataCheck) -> None:
    if facts[image].wrong:
        check.faults.append(FileFault(image, facts[image].wrong))
    elif facts[image].odd:
        check.odd.append(FileFault(image, f'is used as it is: {facts[image].odd}'))


def _judge_map(image: str, label: str, report: DataReport, facts: Mapping[str, FileFacts],
               check: DataCheck) -> None:
    found, size = facts[label], facts[image].size
    if found.wrong == MISSING:
        check.faults.append(FileFault(image, f'has no label map {label}{_instead_of(label)}'))
    elif found.wrong:
        check.faults.append(FileFault(label, found.wrong))
    elif facts[image].wrong is None and found.size != size:
        turned = ('; it lies on its side: turn it to lie as its image is displayed'
                  if found.size == size[::-1] else '')
        check.faults.append(FileFault(label, f'has {found.size[1]}×{found.size[0]} pixels, but its '
                                             f'image is displayed at {size[1]}×{size[0]}{turned}'))
    elif report.segments is not None:
        _judge_segments(label, report.segments[label], found.counts, check)
    elif report.maps is not None:
        wrong = report.maps.fault(found.counts)
        pixels = report.maps.pixels(found.counts)
        if wrong:
            check.faults.append(FileFault(label, wrong))
        elif set(pixels) == {IGNORED}:
            check.doubtful.append(FileFault(label, 'has no pixel with a label'))
        check.pixels.setdefault(report.split, Counter()).update(pixels)


def _judge_segments(label: str, listed: frozenset[int], counts: Mapping[int, int],
                    check: DataCheck) -> None:
    lost, unknown = listed - set(counts), set(counts) - listed - {0}
    if unknown:
        check.faults.append(FileFault(
            label, f'holds segment {min(unknown)}, which the annotations do not list; if the map '
                   f'was saved anew, its colors were changed'))
    elif lost:
        check.faults.append(FileFault(
            label, f'has no pixel of segment {min(lost)}, which the annotations list'))


def _judge_all(report: DataReport, labels: Sequence[str], facts: Mapping[str, FileFacts],
               check: DataCheck) -> None:
    """What shows in all label maps of a part together."""
    ids = {value for label in labels for value in facts[label].counts or ()}
    meaning = report.maps
    if meaning is not None and meaning.is_binary(ids):
        binary = meaning.options.binary
        check.faults.append(FileFault(
            labels[0], f'holds 0 and 255, as all label maps for {report.split} do: 255 has no '
                       f'label here, so that one class is left; of masks in black and white '
                       f'it is the second class' + (f': {binary}' if binary else '')))
    elif labels and meaning is not None and ids and all(
            meaning.lookup[value] == IGNORED for value in ids):
        check.faults.append(FileFault(labels[0], f'has no pixel with a label, as none of the label '
                                                 f'maps for {report.split} has'))


def _judge_rare(used: Sequence[tuple[DataReport, Sequence[tuple[str, ...]]]],
                facts: Mapping[str, FileFacts], check: DataCheck) -> None:
    """Where the classes are the ids that occur: ids far above the others, in hardly any map."""
    meaning = next((one.maps for one, _ in used if one.maps and not one.maps.given), None)
    labels = {label for _, samples in used for _, *maps in samples for label in maps}
    if meaning is None or len(labels) < _MANY:
        return
    times = Counter(value for label in labels for value in facts[label].counts or ()
                    if meaning.lookup[value] != IGNORED)
    few = max(1, len(labels) // 100)
    usual = [value for value, number in times.items() if number > few]
    top = ceiling = max(usual, default=255)
    while ceiling + 1 in times:      # classes that are rare, unless there are more than others
        ceiling += 1
    if ceiling - top <= len(usual):
        top = ceiling
    for label in sorted(labels):
        if rare := sorted(value for value in facts[label].counts or () if value in times
                          and value > top + 1):
            shown = ', '.join(map(str, rare[:5])) + (', …' if len(rare) > 5 else '')
            check.doubtful.append(FileFault(
                label, f'holds id {shown}, above those of the other label maps (at most {top}): '
                       f'without a classes.json it counts as a class; if it is not one, correct '
                       f'the map or give {meaning.options.ignore}{rare[0]}; if it is, list the '
                       f'classes in classes.json'))


def _instead_of(label: str) -> str:
    """What lies where a label map should be: the same name with another ending."""
    stem, suffix = os.path.splitext(label)
    near = next((stem + other for other in _ENDINGS if os.path.exists(stem + other)), None)
    if near is None:
        return ''
    lossy = ('whose compression changes ids; make it again, as PNG' if near.lower().endswith(
        ('.jpg', '.jpeg')) else f'but label maps must end in {suffix}')
    return f' ({os.path.basename(near)} is there, {lossy})'


def pixel_shares(meaning: MapMeaning, pixels: Mapping[int, int]) -> str:
    """Every class with its share of the labelled pixels, in words."""
    labelled = sum(number for index, number in pixels.items() if index != IGNORED) or 1
    shares = ', '.join(f'{name} {100 * pixels.get(index, 0) / labelled:.3g} %'
                       for index, name in enumerate(meaning.names))
    without = pixels.get(IGNORED, 0) / max(sum(pixels.values()), 1)
    return shares + (f'; {100 * without:.3g} % of all pixels without label' if without else '')
