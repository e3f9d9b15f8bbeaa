"""The cell that says how well a recipe's regions fit what people outlined."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.labels.label_ids import read_stored
from densessl.masks.quality import measure
from densessl.masks.store import MaskStore
from densessl.study.cells import Cell, Command, Place, Run
from densessl.study.recipe import Recipe, masks_command

IMAGES, TRUTHS = 'images/val', 'labels/val'     # NAME.jpg, and NAME_K.png by annotator K


@dataclass(frozen=True)
class MaskQuality(Cell):
    """Achievable segmentation accuracy, boundary recall and undersegmentation error."""

    recipe: Recipe = field(kw_only=True)
    data: str = field(kw_only=True)
    digest: str | None = field(kw_only=True)
    minutes: float = 0.3
    kind = 'mask_quality'

    @property
    def settings(self) -> dict[str, Any]:
        return {'masks': self.recipe.masks, 'data': self.data, 'digest': self.digest}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        return None if runs else masks_command(self.recipe.masks, place.path(self._images),
                                               self.folder(place) / 'masks', place)

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        images = find_images(place.path(self._images))
        store = MaskStore(self.folder(place) / 'masks')
        truths, found = place.path(f'{self.data}/{TRUTHS}'), []
        for i in range(len(images)):
            name = images.name(i)
            outlined = [read_stored(path) for path in
                        sorted(truths.glob(f'{Path(name).stem}_*.png'))]
            if not outlined:
                raise UsageError(f'{truths} has no {Path(name).stem}_0.png: what people outlined')
            found += [measure(store.read_for(images, i, which), outlined)
                      for which in range(store.maps)]
        return {'masks': self.recipe.masks, 'images': len(images), 'on': self.data, **{
            key: 100 * float(np.mean([getattr(one, key) for one in found]))
            for key in ('asa', 'recall', 'under')}}

    @property
    def _images(self) -> str:
        return f'{self.data}/{IMAGES}'
