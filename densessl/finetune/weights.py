"""Pretrained weights on their way into a downstream model."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.backbones import spelled
from densessl.errors import UsageError
from densessl.transfer.handoff import compare_keys
from densessl.transfer.target import TransferTarget
from densessl.weights.backbone_file import load_backbone_file, save_backbone
from densessl.weights.keymap import State
from densessl.weights.provenance import describe


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
        """Read an exported file; see :func:`densessl.weights.backbone_file.load_backbone_file`."""
        return cls(Path(path), *load_backbone_file(path))

    @property
    def source(self) -> str:
        """``'TARGET.name'`` of the pretrained backbone."""
        return self.meta['backbone']['type']

    def translate(self, target: TransferTarget, model: Mapping[str, Any] | None = None) -> None:
        """Rename the weights to the target's keys, for the ``model`` of a downstream config if
        there is one.

        Raises:
            UsageError: no exact translation is known.
        """
        self.placed = target.translate_for(model or {}, self.state, self.source)

    def require_place(self, model: Mapping[str, Any], target: TransferTarget) -> None:
        """Refuse weights of another architecture before anything is written: each must have a
        place of its shape in what receives them, and each place there must get one.

        Args:
            model: of the downstream config, as the recipe left it.

        Raises:
            UsageError: some have none, or some places stay empty.
        """
        modules = target.build_receivers(model)
        backbone = next(iter(modules.values()))
        keys = compare_keys(self.placed, modules, target.added_modules(backbone, self.placed),
                            by_value=False)
        own = target.counterpart(self.placed, self.meta['backbone'])
        kind = model['backbone']['type']
        if not (keys.loaded or keys.mismatched):
            built = f"a {own['type'].partition('.')[2]}" if own else 'another backbone'
            raise UsageError(
                f'{self.path} holds {self.source}, which {target.name} builds as {built}; '
                f'the backbone of this config is a {kind} and has a place for none of '
                f'the weights: choose a config with the right one, or set model.backbone')
        keys.require_complete(
            self.source, target.name,
            f'; it is a {kind}, {self.path} needs {spelled(own) if own else "another"}: choose a '
            f'config with that, or set model.backbone; --allow-partial goes on without the rest')

    def place(self, cfg: Config, target: TransferTarget, folder: Path) -> None:
        """Write the translated weights to ``folder`` and have the downstream config load them."""
        copy = folder / f'backbone_{target.name}.pth'
        save_backbone(copy, self.placed, {**self.meta, 'keys': target.name})
        target.load_weights(cfg, str(copy))

    def __str__(self) -> str:
        return f'{self.path}: {describe(self.meta)}'
