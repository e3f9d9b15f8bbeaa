"""BYOL: predict a slowly moving network's projection of another view; no negatives.

Grill et al.: Bootstrap Your Own Latent (NeurIPS 2020), https://arxiv.org/abs/2006.07733.
Released code: https://github.com/google-deepmind/deepmind-research/tree/master/byol.
"""
from __future__ import annotations

from typing import Any

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.byol.byol import BYOL
    return [BYOL]


def __getattr__(name: str) -> Any:   # imported when asked for: listing plugins stays fast
    if name == 'cosine_regression':
        from densessl_plugins.byol.byol import cosine_regression
        return cosine_regression
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
