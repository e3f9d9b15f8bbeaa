"""SimCLR: two views of an image agree, all other images of the batch are negatives.

Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual
Representations (ICML 2020), https://arxiv.org/abs/2002.05709.
Released code: https://github.com/google-research/simclr.
"""
from __future__ import annotations

from typing import Any

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.simclr.simclr import SimCLR
    return [SimCLR]


def __getattr__(name: str) -> Any:   # imported when asked for: listing plugins stays fast
    if name == 'nt_xent':
        from densessl_plugins.simclr.simclr import nt_xent
        return nt_xent
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
