"""Region masks: the contract of a generator, which turns an image into a label map of regions.

Masks are computed once (:mod:`densessl.masks.build`) and kept in a store
(:mod:`densessl.masks.store`); :mod:`densessl.masks.find` finds the one that a config asks for.
"""
from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from densessl.bounds import PlainName


class MaskGenerator:
    """Divides an image into regions. A subclass names itself, takes its parameters as explicit
    keyword-only arguments that it keeps under the same names, and defines ``__call__`` (or
    ``for_image``)."""

    name: ClassVar[PlainName] = ''
    """What a config writes as ``masks = dict(type=…)`` and ``make_masks --generator`` takes."""

    version: ClassVar[int | str] = 1
    """Raised whenever the same image and parameters come to give other regions."""

    maps: int = 1
    """How many label maps it makes of an image; training draws one of them for each sample."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Divide ``image``, (H, W, 3) uint8 RGB, into regions: (H, W) integers 0..n-1, each of
        which occurs; (maps, H, W) if ``maps`` is more than 1."""
        raise NotImplementedError(f'{type(self).__name__} must define __call__(image) or '
                                  f'for_image(name, image)')

    def for_image(self, name: str, image: np.ndarray) -> np.ndarray:
        """What the store keeps of the image ``name``, a posix path relative to the folder of the
        images. A generator that must know which image it is, because its regions are in a file,
        overrides this instead of ``__call__``. An image for which it raises is skipped and the
        message listed; a ``UsageError`` ends the build."""
        return self(image)

    def files_for(self, name: str) -> Sequence[str | Path]:
        """The files, besides the image ``name`` itself, that its regions are from: once one of them
        has changed, the mask is made again. By default there are none."""
        return ()

    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments with their values: what ``masks.json`` says of a store.
        Values must be what JSON can hold."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
