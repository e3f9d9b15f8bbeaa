"""DetCon: contrast image regions found by a mask, not whole images.

Hénaff, Koppula, Alayrac, van den Oord, Vinyals, Carreira: Efficient Visual Pretraining with
Contrastive Detection (ICCV 2021), https://arxiv.org/abs/2103.10957.
Released code: https://github.com/google-deepmind/detcon.
"""
from __future__ import annotations

from typing import Any

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.detcon.detcon import DetConB
    from densessl_plugins.detcon.detcon_s import DetConS
    return [DetConB, DetConS]


def __getattr__(name: str) -> Any:   # imported when asked for: listing plugins stays fast
    if name == 'detcon_nce':
        from densessl_plugins.detcon.loss import detcon_nce
        return detcon_nce
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
