"""Which label file belongs to which image, and which of them are for training."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from densessl.errors import UsageError
from densessl.images.image_list import EXTENSIONS
from densessl.labels.data_root import missing_files, read_list
from densessl.labels.label_folder import visible_files
from densessl_plugins.mmdet.labels.finding_log import FindingLog

VAL_SHARE = 0.2    # of the images, where the data has no split of its own


def files_by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, list[Path]]:
    """Files below ``folder`` by their path in it without suffix, in sorted order."""
    found: dict[str, list[Path]] = {}
    for path in visible_files(folder, suffixes):
        found.setdefault(path.relative_to(folder).with_suffix('').as_posix(), []).append(path)
    return found


def labelled_images(images: Path, labels: Path, suffix: str, listed: Path | None,
                    log: FindingLog) -> list[tuple[Path, Path | None]]:
    """Images with the label files of the same name; None for an image that has none.

    Args:
        images, labels: the folders. suffix: of label files, such as ``.xml``.
        listed: a list of names, if not all images are meant.

    Raises:
        UsageError: a name in the list has no image.
    """
    all_images = files_by_stem(images, EXTENSIONS)
    of_image = {stem: paths[0] for stem, paths in all_images.items()}
    of_label = {stem: paths[0] for stem, paths in files_by_stem(labels, {suffix}).items()}
    if listed is None:
        for stem, path in of_label.items():
            if stem not in of_image and not _is_list(path):
                log.add('have no image of the same name', str(path), 'unusable', 'label files')
            for twin in all_images.get(stem, ())[1:]:
                log.add('have the name of another image, whose label file is meant', str(twin),
                        'unusable', 'images')
        return [(path, of_label.get(stem)) for stem, path in of_image.items()]
    names = read_list(listed, of_image)
    missing_files([of_image.get(name, images / f'{name}.jpg') for name in names], listed)
    return [(of_image[name], of_label.get(name)) for name in names]


def _is_list(path: Path) -> bool:
    """Whether a text file is one that lies beside labels without being one."""
    return path.name in ('classes.txt', 'train.txt', 'val.txt', 'test.txt', 'README.txt',
                         'README.roboflow.txt', 'README.dataset.txt')


def drawn(names: Sequence[str], part: str) -> list[bool]:
    """Whether each of ``names`` is in ``part``, ``train`` or ``val``; drawn by the hash of the
    name, so that an image stays where it is when others are added.

    Raises:
        UsageError: there are fewer than two.
    """
    if len(names) < 2:
        raise UsageError(f'{len(names)} labelled image cannot be divided into a part for training '
                         f'and one for validation; two are needed at least')
    place = [int.from_bytes(hashlib.sha256(name.encode('utf-8', 'surrogateescape')).digest()[:8])
             / 2 ** 64 for name in names]
    limit = min(max(VAL_SHARE, min(place)), sorted(place)[-2])     # none of the two is empty
    return [(value <= limit) == (part == 'val') for value in place]


def year_folders(root: Path) -> list[Path]:
    """The years of a development kit: ``root`` itself, folders in it or in its VOCdevkit."""
    for base in (root, root / 'VOCdevkit'):
        candidates = [base, *sorted(base.glob('*'))] if base.is_dir() else []
        found = [one for one in candidates if (one / 'Annotations').is_dir()
                 and (one / 'ImageSets' / 'Main').is_dir()]
        if found:
            return found
    return []


def year_lists(year: Path) -> tuple[str, str]:
    """The lists for training and validation of one year: ``trainval`` and ``test`` if both are
    there, else ``train`` and ``val``; '' for one that is not there."""
    main = year / 'ImageSets' / 'Main'
    lists = {name: str(main / f'{name}.txt') for name in ('trainval', 'test', 'train', 'val')
             if (main / f'{name}.txt').is_file()}
    labelled = 'test' in lists and _labelled(year, lists['test'])
    if labelled and ('trainval' in lists or 'train' in lists):
        return lists.get('trainval') or lists['train'], lists['test']
    if 'train' in lists and 'val' in lists:
        return lists['train'], lists['val']
    return lists.get('trainval') or lists.get('train') or lists.get('val') or '', ''


def _labelled(year: Path, listed: str) -> bool:
    """Whether the images of a list have annotations; VOC kept those of some test lists back."""
    with open(listed, 'rb') as file:
        words = file.read(4096).decode('utf-8-sig', 'replace').split('\n')[0].split()
    return bool(words) and any((year / 'Annotations' / f'{name}.xml').is_file()
                               for name in (words[0], ' '.join(words)))
