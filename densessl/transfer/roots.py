"""Data sets that a downstream config names itself, below another root folder."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.transfer.subset import leaf_datasets

SPLITS = ('train', 'val')


def set_root(cfg: Any, root: str | None) -> list[str]:
    """Point every dataset of a downstream config at ``root`` (None: each at its own).

    Returns:
        A line for each dataset.

    Raises:
        UsageError: folders or files that the config names are not there; the message lists them.
    """
    lines = []
    for split in SPLITS:
        for dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset):
            dataset.data_root = root or dataset.get('data_root') or ''
            wanted = [part for part in (*dataset.get('data_prefix', {}).values(),
                                        dataset.get('ann_file')) if part]
            require(wanted, Path(dataset.data_root), f'that is where {dataset.type} looks; '
                    f'--data-root names another folder')
            lines.append(f'{split}: {dataset.type} in {dataset.data_root}')
    cfg.test_dataloader = cfg.val_dataloader
    return lines


def require(wanted: Sequence[str], root: Path, hint: str) -> None:
    """Raise UsageError, with ``hint``, unless all of ``wanted`` exist below ``root``."""
    missing = [part for part in wanted if not (root / part).exists()]
    if not root.is_dir():
        raise UsageError(f'no folder {root}; {hint}')
    if missing:
        raise UsageError(f'{root} has no {", no ".join(missing)}; {hint}')
