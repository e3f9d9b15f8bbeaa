"""Supervised classification: the baseline that every comparison needs, through the same engine.

The protocol of He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (CVPR 2016),
https://arxiv.org/abs/1512.03385, as in PyTorch's ImageNet example. Labels come from a folder for
each class.
"""
from __future__ import annotations

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.supervised.supervised import Supervised
    return [Supervised]
