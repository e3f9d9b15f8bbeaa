"""The frozen network whose features a student learns."""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densessl.backbones import feature_maps, feature_stage, feature_stages, finest_first
from densessl.errors import UsageError
from densessl.export.start import Start, read_start
from densessl.transfer.handoff import normalize, reference_input
from densessl.weights.stated_backbone import rebuild

DECISIVE = ('backbone', 'mean', 'std', 'channel_order')     # of its provenance, beside its weights


class Teacher:
    """A frozen network with what it expects of its input. No ``nn.Module``: a student's checkpoint
    is not to hold it, and nothing that initializes or trains a model is to find it.

    Args:
        weights: what ``--init`` takes: a file, or ``'TARGET.name'`` for a library's own weights.
        network: ``'TARGET.name'`` that somebody else's file is of, if its shapes do not tell.
        stage: which of its feature maps, −1 the last; None: the last that is as fine as the
            student's, or the finest it has.
        student_stride: pixels a cell of the student's map, for that choice.
        size: side in pixels to which views are resized for it; as they are if None.

    Raises:
        UsageError: no weights, some that compute infinities or NaN, or no such stage.
    """

    def __init__(self, weights: str | None, network: str | None, stage: int | None,
                 size: int | None, student_stride: int) -> None:
        if not weights:
            raise UsageError('a teacher is needed: --cfg-options model.teacher=FILE (what --init '
                             'takes), or model.teacher=TARGET.name for a library’s own weights')
        start = _read_teacher(weights, network)
        self.link, self.meta, self.file = start.links[0], start.meta, start.file
        self.reads = json.dumps([self.meta[key] for key in DECISIVE], default=str)
        with torch.random.fork_rng([]):     # its random weights, which are replaced, cost no draws
            self.module = rebuild(start.meta, start.state, start.file)
        self.module.eval()
        self.module.requires_grad_(False)
        maps = feature_maps(self.module, reference_input(start.state, start.meta))
        if not all(torch.isfinite(one).all() for one in maps):
            raise UsageError(f'model.teacher {self.file}: on an image it computes infinities or '
                             f'NaN; take other weights')
        self.size = size
        self.stage = (as_fine_as(student_stride, [one.stride for one in feature_stages(
            self.module)]) if stage is None else stage)
        try:
            found = feature_stage(self.module, self.stage)
        except UsageError as error:
            raise UsageError(f'model.teacher_stage {self.stage}: {error}') from error
        self.channels, self.stride = found.channels, found.stride

    def check_size(self, size: int, key: str) -> None:
        """Refuse views that the teacher does not take.

        Args:
            size: side of a view in pixels; key: where the config says it.

        Raises:
            UsageError: its patches do not divide them.
        """
        side = self.size or size
        try:
            feature_stages(self.module, side)
        except UsageError as error:
            where = key if self.size is None else 'model.teacher_size'
            less = max(side // self.stride, 1) * self.stride
            raise UsageError(
                f'{where} {side}: the teacher {self.file.name} takes multiples of its '
                f'{self.stride} pixels a cell; give {less} or {less + self.stride}'
                + ('' if self.size else ', or resize for it with model.teacher_size')) from error

    @torch.no_grad()
    def features(self, image: Tensor, preprocessor: nn.Module) -> Tensor:
        """Its map (B, C, h, w) of a batch of normalized views.

        Args:
            image: (B, 3, H, W), normalized by ``preprocessor``, whose mean, std and channel order
                may be others than the teacher's; without any, it is taken to be the teacher's own.
        """
        self.module.to(image.device)
        x = self._renormalized(image, preprocessor)
        if self.size is not None and x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode='bicubic', antialias=True)
        return finest_first(self.module(x))[self.stage]

    @torch.no_grad()
    def whole(self, pixels: np.ndarray) -> Tensor:
        """Its map (C, h, w) of an image (H, W, 3) uint8 RGB."""
        weight = next(self.module.parameters())
        image = normalize(torch.from_numpy(pixels).permute(2, 0, 1), self.meta)[None]
        return finest_first(self.module(image.to(weight.device)))[self.stage][0]

    def _renormalized(self, image: Tensor, preprocessor: nn.Module) -> Tensor:
        if not hasattr(preprocessor, 'mean'):
            return image
        rgb = image.flip(1) if preprocessor.swaps else image
        pixels = (rgb * preprocessor.std + preprocessor.mean) * 255           # 0 … 255
        ordered = pixels.flip(1) if self.meta['channel_order'] == 'BGR' else pixels
        mean, std = (torch.tensor(self.meta[key], dtype=image.dtype,
                                  device=image.device).view(1, 3, 1, 1) for key in ('mean', 'std'))
        return (ordered - mean) / std


def as_fine_as(stride: int, strides: Sequence[int]) -> int:
    """The position of the last map whose cells are no larger than ``stride`` pixels; of the finest
    if all are larger."""
    within = [i for i, one in enumerate(strides) if one <= max(stride, min(strides))]
    return within[-1]


def _read_teacher(weights: str, network: str | None) -> Start:
    try:
        return _read(weights, network, _stamp(weights))
    except UsageError as error:
        hint = ('; what densessl export --from LAYOUT makes of it says what it is'
                if 'say which with --from' in str(error) else '')
        raise UsageError(f'model.teacher: {error}{hint}') from error


def _stamp(weights: str) -> Any:
    """What changes when the file does."""
    path = Path(weights)
    return (path.resolve(), os.stat(path).st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=1)
def _read(weights: str, network: str | None, stamp: Any) -> Start:
    """A run builds its method more than once, and large files take a while."""
    return read_start(weights, network, option='model.teacher_as=')
