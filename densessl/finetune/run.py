"""What a fine-tuning run is: one object that the command, the run itself and a benchmark share."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.files.folders import work_folder
from densessl.finetune.labelled_subset import check_fraction, check_seed
from densessl.finetune.weights import Weights
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.weights.backbone_file import RANDOM

INPUT = ('mean', 'std', 'channel_order')    # of weights; their hash does not tell it


@dataclass(frozen=True)
class FinetuneRun:
    """A downstream config, initial weights and labelled data; not how the run is carried out.

    Attributes:
        config: path or name of a downstream config.
        weights: an exported backbone; random weights if None.
        data_root: the data set's folder; the config's own if None.
        fraction: of the training images, in (0, 1]; nested and drawn with ``seed``.
        seed: of the subset and of the training.
        options: overrides of the config by dotted key.
        keep: recipe lines (:data:`densessl.transfer.recipe.LINES`) to leave as in the config.
        freeze: how many stages stay as loaded, besides the stem; None: all is trained.
        like: random weights get its network and input, to be compared with it.
        pixels: how images are read, instead of what the pretraining says.
        allow_partial: go on when weights or features do not match.
        work_dir: default ``work_dirs/<config>-<backbone>-<fraction>-seed<seed>``.

    Raises:
        UsageError: a value that no run can have.
    """

    config: str
    weights: Weights | None = None
    data_root: str | Path | None = None
    fraction: float = 1.0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: Sequence[str] = ()
    freeze: int | None = None
    like: Weights | None = None
    pixels: PixelRule = PLAIN
    allow_partial: bool = False
    work_dir: str | Path | None = None

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        check_seed(self.seed)
        if self.like and self.weights:
            raise UsageError(f'--like {self.like.path} is for --backbone {RANDOM}; weights from a '
                             f'file follow their own pretraining')

    def folder(self) -> Path:
        """Where everything that the run writes goes."""
        backbone = self.weights.path.stem if self.weights else RANDOM
        return work_folder(self.work_dir, f'work_dirs/{Path(self.config).stem}-{backbone}-'
                                          f'{self.fraction:g}-seed{self.seed}')

    def identity(self, config_hash: str, likeness: str | None) -> dict[str, Any]:
        """What the run is told apart by, for ``run.json``.

        Args:
            config_hash: :func:`densessl.finetune.run_folder.config_digest` of the config with its
                overrides.
            likeness: :func:`densessl.finetune.weights.likeness` of random weights.
        """
        return {
            'config': Path(self.config).stem, 'config_hash': config_hash,
            'backbone': self.weights.meta['sha256'] if self.weights else RANDOM,
            'data_root': str(Path(self.data_root).resolve()) if self.data_root else None,
            'fraction': self.fraction, 'seed': self.seed, 'keep': sorted(self.keep),
            'freeze': self.freeze, 'pixels': self.pixels.record() or None, 'like': likeness,
            'input': json.dumps([self.weights.meta.get(key) for key in INPUT])
            if self.weights else None}

    def command(self) -> list[str]:
        """The words after ``densessl`` that make this run."""
        low_high = self.pixels.value_range
        options: dict[str, Sequence[Any]] = {
            '--backbone': [self.weights.path if self.weights else RANDOM],
            '--like': [self.like.path] if self.like else (),
            '--data-root': [self.data_root] if self.data_root else (),
            '--fraction': [repr(self.fraction)],
            '--seed': [self.seed],
            '--work-dir': [self.folder()],
            '--keep': self.keep,
            '--freeze': () if self.freeze is None else [self.freeze],
            '--value-range': [low_high] if isinstance(low_high, str) else low_high or (),
            '--bands': self.pixels.bands or (),
            '--cfg-options': [f'{key}={value!r}' for key, value in self.options.items()]}
        words = [str(word) for option, values in options.items() if values
                 for word in (option, *values)]
        return ['finetune', self.config, *words, *['--allow-partial'] * self.allow_partial]
