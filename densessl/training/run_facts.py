"""What a pretraining run is: what its weights say of it, and what must be the same to resume it."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from densessl import __version__
from densessl.backbones import without_sources
from densessl.engine.checkpoint_file import (
    newest_checkpoint,
    read_checkpoint,
    require_run_state,
)
from densessl.engine.restore import checked_meta
from densessl.errors import UsageError, escaped
from densessl.export.start import Start
from densessl.masks.metadata import spell
from densessl.planning.continuing import TABLE
from densessl.planning.decisive_settings import (
    MASKS_MADE,
    as_views_have_it,
    changes,
    leaves_of,
    settings_of,
    settings_of_views,
)
from densessl.planning.plan import Plan
from densessl.views.dataset import ViewDataset
from densessl.weights.lineage import KEPT, LINKS


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


def refuse_another_run(folder: Path, identity: Mapping[str, Any], files: Collection[str]) -> None:
    """As :func:`require_same_run` of the newest checkpoint in ``folder``, before anything is
    written there; one that is damaged is passed over here, as an older one may be resumed.

    Raises:
        UsageError: it is another's.
    """
    newest = newest_checkpoint(folder)
    if newest is None:
        return
    try:
        checkpoint = read_checkpoint(newest, mmap=True)
    except UsageError:
        return
    require_same_run(str(newest), checkpoint, identity=identity, files=files)


def require_same_run(filename: str, checkpoint: Mapping[str, Any], *, identity: Mapping[str, Any],
                     files: Collection[str]) -> None:
    """Refuse to resume a checkpoint of another run.

    Args:
        filename, checkpoint: its path and its content.
        identity: of this run. files: keys in it that name files, which may lie elsewhere by now:
            their hashes are in it, too.

    Raises:
        UsageError: it is another's; the message names the first setting that differs.
    """
    require_run_state(filename, checkpoint, ('state_dict', 'meta', 'optimizer'))
    before = as_views_have_it(checked_meta(checkpoint, filename).get('identity', {}))
    before.setdefault(MASKS_MADE, identity.get(MASKS_MADE))     # older ones do not say
    was, now = before.get('start'), identity.get('start')       # all else follows from that
    if was and not now:
        raise UsageError(f'cannot resume {filename}: its run started from weights, and its copy '
                         f'of them, {KEPT}, is gone; give them with --init')
    if now and not was:
        raise UsageError(f'cannot resume {filename}: its run started from random weights; leave '
                         f'--init out')
    if now != was:
        raise UsageError(f'cannot resume {filename}: its run started from other weights (sha256 '
                         f'{escaped(str(was)[:16])}…, these have {now[:16]}…); leave --init out')
    for key, old, new in changes(before, identity):
        if key not in files:
            was = escaped(str(old)[:300])
            raise UsageError(f'cannot resume {filename}: it was made with {key} {was}, this run '
                             f'has {new}; give the same value, or start anew in another '
                             f'--work-dir')
