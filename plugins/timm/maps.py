"""timm models that return their feature maps under their own keys."""
from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor, nn

FINEST_STRIDE = 4   # dense heads read strides 4 to 32; half-size stem maps are not for them


class MapsMixin:
    """Turns a timm model into one that returns its maps; the keys stay as they are."""

    map_indices: tuple[int, ...]
    stage_numbers: tuple[int, ...]    # of the maps, as timm counts a network's stages

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
    model.stage_numbers = tuple(_stage_numbers(model.feature_info, model.map_indices))
    model.prune_intermediate_layers(list(model.map_indices), prune_norm=False, prune_head=True)
    model.__class__ = _maps_class(type(model))
    return model


def _stage_numbers(feature_info: Any, indices: tuple[int, ...]) -> Iterator[int]:
    """The number of the stage that each map ends. A dilated network has stages of one stride, of
    which only the last map is kept."""
    stages = [index for index, info in enumerate(feature_info)
              if info['reduction'] >= FINEST_STRIDE]
    same = len({feature_info[index]['reduction'] for index in stages}) == 1     # a ViT's blocks
    for position, index in enumerate(indices):
        yield 1 + (position if same else stages.index(index))


@cache
def _maps_class(cls: type[nn.Module]) -> type[nn.Module]:
    return type(cls.__name__, (MapsMixin, cls), {'__module__': __name__})
