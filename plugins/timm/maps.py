"""timm models that return their feature maps under their own keys."""
from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn

FINEST_STRIDE = 4   # dense heads read strides 4 to 32; half-size stem maps are not for them


class MapsMixin:
    """Turns a timm model into one that returns its maps; the keys stay as they are."""

    map_indices: tuple[int, ...]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.forward_intermediates(
            x, indices=list(self.map_indices), norm=True, output_fmt='NCHW',
            intermediates_only=True))

    def init_weights(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: timm initialized the weights in the constructor, and mmengine, which calls
        this on every child that has it, would do it again in another way."""


def as_maps(model: nn.Module) -> nn.Module:
    """Keep the last map at each stride from 4 on; drop what only the classifier needs, since
    parameters without gradients stop a distributed run. The model's own class is changed, not a
    wrapper put around it: that would put a prefix before every key."""
    last = {info['reduction']: index for index, info in enumerate(model.feature_info)
            if info['reduction'] >= FINEST_STRIDE}
    model.map_indices = tuple(last.values())
    model.prune_intermediate_layers(list(model.map_indices), prune_norm=False, prune_head=True)
    model.__class__ = _maps_class(type(model))
    return model


@cache
def _maps_class(cls: type[nn.Module]) -> type[nn.Module]:
    return type(cls.__name__, (MapsMixin, cls), {'__module__': __name__})
