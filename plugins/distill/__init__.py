"""Distillation: a student of any architecture learns the dense features of a frozen teacher.

Features are compared cell by cell, by cosine and smooth L1 with the weights of Theia (Shang et al.,
CoRL 2024, https://arxiv.org/abs/2407.20179; released code:
https://github.com/bdaiinstitute/theia).
"""
from __future__ import annotations

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.distill.distill import Distill, DistillRegions
    return [Distill, DistillRegions]
