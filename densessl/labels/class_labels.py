"""Class labels from folders, for the tasks that have them."""
from __future__ import annotations

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_list import ImageList


def class_labels(images: ImageList) -> np.ndarray:
    """Label each image by its first folder, classes in sorted order.

    Returns:
        (N,) int64 labels 0..classes−1.

    Raises:
        UsageError: an image lies in no class folder, or there is one class only.
    """
    if not images.in_folders:
        raise UsageError(f'{images.source} has no class folders: labels need images in folders, or '
                         f'shards that densessl make_shards wrote of them')
    folders = []
    for i in range(len(images)):
        folder, slash, _ = images.name(i).partition('/')
        if not slash:
            raise UsageError(f'{images.where(i)} is in no class folder: labels need one folder for '
                             f'each class, {images.root}/CLASS/image.jpg')
        folders.append(folder)
    classes, labels = np.unique(folders, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f'{images.root} has one class folder ({classes[0]}); at least two are '
                         f'needed')
    return labels.astype(np.int64)
