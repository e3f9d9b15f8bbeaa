"""What a pretraining run is: what its weights say of it, and what must be the same to resume it."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from densessl import __version__
from densessl.backbones import without_sources
from densessl.export.start import Start
from densessl.masks.metadata import spell
from densessl.planning.continuing import TABLE
from densessl.planning.decisive_settings import (
    MASKS_MADE,
    leaves_of,
    settings_of,
    settings_of_views,
)
from densessl.planning.plan import Plan
from densessl.views.dataset import ViewDataset
from densessl.weights.lineage import LINKS


def provenance_of(cfg: Config, config: str, plan: Plan, dataset: ViewDataset,
                  start: Start | None) -> dict[str, Any]:
    """Plain facts about a run, kept in every checkpoint of it.

    Args:
        config: its path or name. start: weights that it starts from, if those are not random.
    """
    return {'densessl': __version__, 'method': cfg.model.type, 'config': Path(config).stem,
            'backbone': without_sources(cfg.model.backbone.to_dict()),
            'mean': list(cfg.normalization.mean), 'std': list(cfg.normalization.std),
            'channel_order': cfg.normalization.get('channel_order', 'RGB'),
            'data': dataset.images.root.name, 'images': len(dataset), 'epochs': plan.epochs,
            'steps': plan.steps, 'global_batch': plan.global_batch, 'seed': cfg.seed,
            'masks': dataset.masks.info.get('generator') if dataset.masks else None,
            **dataset.images.rule.record(), **({LINKS: start.links} if start else {}),
            'torch': str(torch.__version__)}


def identity_of(cfg: Config, plan: Plan, dataset: ViewDataset, start: Start | None
                ) -> dict[str, Any]:
    """What must be the same for a resumed run to be the same run, by name."""
    started = {} if start is None else {
        'start': start.digest, 'init_heads': start.links[0]['heads'], **leaves_of(cfg, [TABLE])}
    return {**settings_of(cfg), **settings_of_views(dataset.views),
            'global_batch': plan.global_batch, 'steps': plan.steps,
            'iterations an update': plan.accumulate, 'seed': cfg.seed,
            'images': f'{len(dataset)} (list {dataset.images.digest()})',
            MASKS_MADE: spell(dataset.masks.info) if dataset.masks else None, **started}
