"""The contract of a transfer target: a library that receives (and builds) backbones."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from densessl.errors import UsageError

if TYPE_CHECKING:
    from mmengine import Config

    from densessl.transfer.recipe import Recipe

State = dict[str, Tensor]


class TransferTarget:
    """A library on the other side: it builds its backbones by name, knows its key layout and, if
    it can, fine-tunes. Instances carry no state."""

    name: ClassVar[str] = ''
    """What a config writes before the dot (``type='name.resnet50'``) and ``--to`` takes."""

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        """Build backbone ``name`` (what follows the dot) with random weights.

        Returns:
            A module whose ``forward`` maps (B, 3, H, W) to a tuple of feature maps
            (B, C_i, H_i, W_i), finest first, and whose ``state_dict`` has the library's own keys.

        Raises:
            UsageError: unknown name; the message lists close ones.
        """
        raise UsageError(f'target {self.name!r} builds no backbones')

    def translate(self, state: State, source: str) -> State:
        """Rename ``state`` to this library's keys.

        Args:
            state: a backbone's state dict in the layout of ``source``.
            source: the backbone's ``'TARGET.name'``.

        Raises:
            UsageError: no exact translation is known; the message says from what there is one.
        """
        raise UsageError(f'target {self.name!r} takes no weights of {source!r}')

    # -- fine-tuning: for targets whose configs mmengine's Runner trains ----------------------

    finetunes: ClassVar[bool] = False
    """Whether ``finetune`` can run configs of this library (their ``default_scope``)."""

    def prepare(self) -> None:
        """Make the library importable and its modules registered (called before a config of it
        is read)."""

    def set_data(self, cfg: Config, root: str) -> None:
        """Point every dataset of a downstream config at ``root`` and list what is missing."""
        raise UsageError(f'target {self.name!r} cannot fine-tune')

    def backbone_modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """The downstream model's modules that receive pretrained weights, by their prefix in the
        model (``{'backbone': model.backbone}``; a C4 detector adds its shared head)."""
        return {'backbone': model.backbone}

    def apply_recipe(self, cfg: Config, recipe: Recipe) -> list[str]:
        """Change a downstream config so that pretrained weights work in it; return one line for
        each change that was made."""
        raise UsageError(f'target {self.name!r} cannot fine-tune')

    def main_scores(self, metrics: dict[str, Any]) -> dict[str, float]:
        """The headline figures among an evaluation's ``metrics``, by the name people use."""
        return {name: float(value) for name, value in metrics.items()}
