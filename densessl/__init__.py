"""densessl: pretrain vision backbones without labels for dense prediction.

What a plugin author needs is imported from here and loaded when it is first used, so that
``import densessl`` stays light: :data:`hookimpl`, :class:`Method`, :class:`View`,
:class:`MaskGenerator` and :class:`TransferTarget`.
"""
from __future__ import annotations

from importlib import import_module
from typing import Any

from densessl.hookspecs import hookimpl

__version__ = '0.1.0'
__all__ = ['MaskGenerator', 'Method', 'TransferTarget', 'View', 'hookimpl']

_HOME = {'Method': 'densessl.method', 'View': 'densessl.method',
         'MaskGenerator': 'densessl.masks.generator', 'TransferTarget': 'densessl.transfer.target'}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
