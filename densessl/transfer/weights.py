"""Pretrained weights on their way into a downstream model."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.transfer.backbone_file import describe, load_backbone_file, save_backbone
from densessl.transfer.keymap import State
from densessl.transfer.target import TransferTarget


@dataclass
class Weights:
    """An exported backbone.

    Attributes:
        path: the file.
        state: its weights, in the keys of the library it was built from.
        meta: its provenance.
        placed: the weights in the target's keys, once they are translated.
    """

    path: Path
    state: State
    meta: dict[str, Any]
    placed: State = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Weights:
        """Read an exported file; see :func:`densessl.transfer.backbone_file.load_backbone_file`."""
        return cls(Path(path), *load_backbone_file(path))

    @property
    def source(self) -> str:
        """``'TARGET.name'`` of the pretrained backbone."""
        return self.meta['backbone']['type']

    def translate(self, target: TransferTarget) -> None:
        """Rename the weights to the target's keys.

        Raises:
            UsageError: no exact translation is known.
        """
        self.placed = target.translate(self.state, self.source)

    def place(self, cfg: Config, target: TransferTarget, folder: Path) -> None:
        """Write the translated weights to ``folder`` and have the downstream config load them."""
        copy = folder / f'backbone_{target.name}.pth'
        save_backbone(copy, self.placed, {**self.meta, 'keys': target.name})
        target.load_weights(cfg, str(copy))

    def __str__(self) -> str:
        return f'{self.path}: {describe(self.meta)}'
