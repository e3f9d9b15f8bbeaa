"""MoCo: a queue of keys from a slowly moving encoder.

He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning
(CVPR 2020), https://arxiv.org/abs/1911.05722; Chen, Fan, Girshick, He: Improved Baselines with
Momentum Contrastive Learning (2020), https://arxiv.org/abs/2003.04297.
Released code: https://github.com/facebookresearch/moco.
"""
from __future__ import annotations

from typing import Any

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.moco.moco import MoCo
    return [MoCo]


def __getattr__(name: str) -> Any:   # imported when asked for: listing plugins stays fast
    if name == 'info_nce':
        from densessl_plugins.moco.moco import info_nce
        return info_nce
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
