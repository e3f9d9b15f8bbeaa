"""torchvision's data sets of images in classes, read from where a user has them.

They are the transfer table of SimCLR and BYOL as far as torchvision has it (of the twelve, Birdsnap
is a folder of class folders, and VOC2007 has several classes an image), and others. Train and test
are the sets' own, validation images counting as training images, as in Kornblith et al. 2019; sets
without a split are divided by :func:`densessl.probes.class_images.held_out`.
"""
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.labels.class_labels import ClassImages

_TRAIN = ({'train': True},), ({'train': False},)
_TEST = ({'split': 'train'},), ({'split': 'test'},)
_TRAINVAL = ({'split': 'trainval'},), ({'split': 'test'},)
_THREE = ({'split': 'train'}, {'split': 'val'}), ({'split': 'test'},)
_WHOLE = ({},), ()
# name → the arguments of its parts for training, and of those for testing
SETS: dict[str, tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]] = {
    'Food101': _TEST, 'CIFAR10': _TRAIN, 'CIFAR100': _TRAIN, 'SUN397': _WHOLE,
    'StanfordCars': _TEST, 'FGVCAircraft': _TRAINVAL, 'DTD': _THREE, 'OxfordIIITPet': _TRAINVAL,
    'Caltech101': _WHOLE, 'Flowers102': _THREE,
    'Caltech256': _WHOLE, 'Country211': (({'split': 'train'}, {'split': 'valid'}),
                                         ({'split': 'test'},)),
    'EuroSAT': _WHOLE, 'FashionMNIST': _TRAIN, 'GTSRB': _TEST,
    'ImageNet': (({'split': 'train'},), ({'split': 'val'},)),
    'Imagenette': (({'split': 'train'},), ({'split': 'val'},)),
    'KMNIST': _TRAIN, 'MNIST': _TRAIN, 'PCAM': _THREE, 'RenderedSST2': _THREE, 'STL10': _TEST,
    'SVHN': _TEST, 'USPS': _TRAIN,
}


def read_set(name: str, root: Path) -> tuple[ClassImages, ClassImages | None]:
    """The training and the test images of ``SETS[name]``; None for the latter without a split.

    Raises:
        UsageError: ``root`` does not hold the set as torchvision expects it.
    """
    train, test = SETS[name]
    return _join(name, root, train), _join(name, root, test) if test else None


def _join(name: str, root: Path, parts: tuple[dict[str, Any], ...]) -> ClassImages:
    """Several parts of a data set as one."""
    from densessl.labels.class_labels import ClassImages
    opened = [_open(name, root, part) for part in parts]
    labels = [_labels(part) for part in opened]
    where = [(part, i) for part, found in enumerate(labels) for i in range(len(found))]
    keys = [f'{part}/{i}' for part, i in where]
    classes = np.concatenate(labels)
    names = getattr(opened[0], 'classes', None) or getattr(opened[0], 'categories', None)
    count = int(classes.max()) + 1
    return ClassImages(keys, classes, [str(one) for one in names] if names and len(names) >= count
                       else [f'class {i}' for i in range(count)], partial(_read, opened, where))


def _read(opened: list[Any], where: list[tuple[int, int]], position: int) -> np.ndarray:
    part, i = where[position]
    return np.asarray(opened[part][i][0].convert('RGB'))


def _open(name: str, root: Path, arguments: dict[str, Any]) -> Any:
    from torchvision import datasets
    try:
        return getattr(datasets, name)(str(root), **arguments)   # download is off by default
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise UsageError(f'{root} does not hold {name} as torchvision reads it: '
                         f'{str(error).splitlines()[0] if str(error) else error!r} '
                         f'(nothing is downloaded)') from error


def _labels(part: Any) -> np.ndarray:
    """The classes of all images, without opening them where the data set lists them."""
    for attribute in ('targets', 'labels', '_labels', 'y', '_samples', 'samples'):
        values = getattr(part, attribute, None)
        if values is not None and len(values) == len(part):
            values = [value[1] if isinstance(value, tuple) else value for value in values]
            return np.asarray(values, np.int64)
    return np.asarray([part[i][1] for i in range(len(part))], np.int64)
