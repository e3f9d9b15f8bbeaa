"""What names of folders and files tell, where many have agreed on words for it."""
from __future__ import annotations

import re

TRAIN, VAL, TEST = ('train', 'training'), ('val', 'valid', 'validation', 'validate', 'dev', 'eval',
                                           'evaluation'), ('test', 'testing')
_SPLITS = {word: words[0] for words in (TRAIN, VAL, TEST) for word in words}
_IMAGES = {'image', 'images', 'img', 'imgs', 'rgb'}
_LABELS = {'label', 'labels', 'mask', 'masks', 'gt', 'truth', 'groundtruth', 'annotation',
           'annotations', 'segmentation', 'segmentations', 'seg', 'panoptic', 'stuff', 'pixelmaps'}


def splits_of(name: str) -> set[str]:
    """``train``, ``val`` and ``test``, as far as a name speaks of them."""
    return {_SPLITS[word] for word in _words(name) if word in _SPLITS}


def holds_images(name: str) -> bool:
    return not _IMAGES.isdisjoint(_words(name))


def holds_labels(name: str) -> bool:
    """Whether what looks like images under such a name are labels."""
    return not _LABELS.isdisjoint(_words(name))


def _words(name: str) -> set[str]:
    """``val``, of ``val2017``; ``jpeg`` and ``images``, of ``JPEGImages``."""
    return {word.lower() for word in re.findall('[A-Z]+(?![a-z])|[A-Z]?[a-z]+', name)}
