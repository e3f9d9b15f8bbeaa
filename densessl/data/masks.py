"""Region masks: the contract of a generator, and what the rest of densessl uses of the store.

A generator turns an image into a label map of regions. Masks are computed once, by
:func:`make_masks`, and kept in a :class:`MaskStore`; :func:`store_for_training` finds or builds
the store that a config asks for.
"""
from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np

from densessl.data.mask_build import MaskSummary, make_masks
from densessl.data.mask_cache import store_for_training
from densessl.data.mask_store import MaskStore

__all__ = ['MaskGenerator', 'MaskStore', 'MaskSummary', 'make_masks', 'store_for_training']


class MaskGenerator:
    """Divides an image into regions. A subclass names itself, takes its parameters as explicit
    keyword-only arguments that it keeps under the same names, and defines ``__call__``."""

    name: ClassVar[str] = ''
    """What a config writes as ``masks = dict(type=…)`` and ``make_masks --generator`` takes."""

    version: ClassVar[int] = 1
    """Raised whenever the same image and parameters come to give other regions."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Divide ``image``, (H, W, 3) uint8 RGB, into regions: (H, W) integers 0..n-1, each of
        which occurs."""
        raise NotImplementedError(f'{type(self).__name__} must define __call__(image)')

    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments with their values: what ``masks.json`` says of a store.
        Values must be what JSON can hold."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
