"""The parts of the module ``panopticapi`` that MMDetection needs, for when it is not installed.

Its only distributions are a repository and a package that holds numpy below 2. What MMDetection
takes from it is small: how a PNG's colors spell a segment's id, and sums of panoptic quality
(Kirillov et al. 2019, Panoptic Segmentation, section 4.1, https://arxiv.org/abs/1801.00868).
"""
from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

OFFSET = 256 ** 3      # above every id, so that two of them make one number
VOID = 0               # the id of pixels without a label


def rgb2id(color: Any) -> Any:
    """Colors (…, 3), or one as a sequence, → ids R + 256·G + 256²·B."""
    if isinstance(color, np.ndarray) and color.ndim == 3:
        return color.astype(np.int32) @ np.array([1, 256, 256 ** 2], np.int32)
    return int(color[0]) + 256 * int(color[1]) + 256 ** 2 * int(color[2])


def id2rgb(ids: Any) -> Any:
    """The inverse of :func:`rgb2id`: (H, W) ids → (H, W, 3) uint8; one id → a list of three."""
    if isinstance(ids, np.ndarray):
        return np.stack([ids // 256 ** power % 256 for power in range(3)], -1).astype(np.uint8)
    return [ids // 256 ** power % 256 for power in range(3)]


@dataclass
class PQStatCat:
    """Counts of one category: matched segments, their summed IoU, and what was not matched."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __iadd__(self, other: PQStatCat) -> PQStatCat:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


class PQStat:
    """Counts by category id."""

    def __init__(self) -> None:
        self.pq_per_cat: dict[int, PQStatCat] = defaultdict(PQStatCat)

    def __getitem__(self, category: int) -> PQStatCat:
        return self.pq_per_cat[category]

    def __iadd__(self, other: PQStat) -> PQStat:
        for category, counts in other.pq_per_cat.items():
            self.pq_per_cat[category] += counts
        return self

    def pq_average(self, categories: Mapping[int, Mapping[str, Any]], isthing: bool | None
                   ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """PQ = SQ · RQ (equation 2), averaged over the categories that occur, and of each.

        Args:
            categories: id → its entry of the annotation file, with ``isthing`` 0 or 1.
            isthing: only things or only stuff; None: both. The average of none is 0.
        """
        each = {category: _quality(self.pq_per_cat[category])
                for category, entry in categories.items()
                if isthing is None or isthing == (entry['isthing'] == 1)}
        found = [quality for quality in each.values() if quality]
        average = {key: sum(quality[key] for quality in found) / max(len(found), 1)
                   for key in ('pq', 'sq', 'rq')}
        nothing = dict.fromkeys(('pq', 'sq', 'rq'), 0.0)
        return ({**average, 'n': len(found)},
                {category: quality or dict(nothing) for category, quality in each.items()})


def _quality(counts: PQStatCat) -> dict[str, float] | None:
    """None for a category that is neither in the truth nor predicted."""
    segments = counts.tp + counts.fp / 2 + counts.fn / 2
    if not segments:
        return None
    return {'pq': counts.iou / segments, 'sq': counts.iou / counts.tp if counts.tp else 0.0,
            'rq': counts.tp / segments}


def install() -> None:
    """Have ``import panopticapi`` find this, unless there is one; may be repeated. Modules of
    MMDetection that were imported before, and noted None for what they missed, are given it."""
    if 'panopticapi' in sys.modules or find_spec('panopticapi'):
        return
    top = _module('panopticapi')
    for name, content in (('utils', (rgb2id, id2rgb)), ('evaluation', (PQStat, PQStatCat))):
        part = _module(f'panopticapi.{name}', OFFSET=OFFSET, VOID=VOID,
                       **{one.__name__: one for one in content})
        setattr(top, name, part)
    supplied = {'panopticapi': top, 'OFFSET': OFFSET, 'VOID': VOID,
                **{one.__name__: one for one in (rgb2id, id2rgb, PQStat)}}
    for name in [name for name in sys.modules if name.startswith('mmdet.')]:
        content = vars(sys.modules[name])
        content.update({key: value for key, value in supplied.items()
                        if key in content and content[key] is None})


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, loader=None, is_package='.' not in name)
    module.__path__ = []
    vars(module).update(content)
    sys.modules[name] = module
    return module
