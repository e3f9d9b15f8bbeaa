"""The transfer target ``timm``: builds its models as dense backbones."""
from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import cache
from typing import Any

import timm
from torch import Tensor, nn

from densessl import TransferTarget
from densessl.errors import UsageError
from densessl.transfer.layouts import is_plain_resnet

FINEST_STRIDE = 4   # dense heads read strides 4 to 32; half-size stem maps are not for them


class Timm(TransferTarget):
    name = 'timm'

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        if not timm.is_model(name):
            models = timm.list_models()
            close = ', '.join(get_close_matches(name, models, n=5, cutoff=0.4)) or 'nothing'
            raise UsageError(f'unknown timm model {name!r}; close to it: {close}; '
                             f'all of them: timm.list_models()')
        model = _create(name, kwargs)
        # Dense training crops and whole downstream images are not the square a transformer was
        # published with: where its family can take any size, let it.
        for flag, value in (('dynamic_img_size', True), ('strict_img_size', False)):
            if flag in inspect.signature(type(model).__init__).parameters and flag not in kwargs:
                model = _create(name, {**kwargs, flag: value})
                break
        if not hasattr(model, 'forward_intermediates') or not getattr(model, 'feature_info', None):
            raise UsageError(f'timm.{name} has no forward_intermediates and gives no feature maps; '
                             f'choose a model of a family that has it (most have)')
        return _as_maps(model)

    def translate(self, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
        if source.partition('.')[0] == self.name or is_plain_resnet(state):
            return dict(state)
        raise UsageError(
            f'no exact translation of {source!r} to timm is known; possible are timm backbones '
            f'and ResNets with a plain 7×7 stem from any library')


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


def _create(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, **{'pretrained': False, 'num_classes': 0, **kwargs})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f'timm.{name} cannot be built: {error}') from error


def _as_maps(model: nn.Module) -> nn.Module:
    """Keep the last map at each stride from 4 on; drop what only the classifier needs, since
    parameters without gradients stop a distributed run."""
    last = {info['reduction']: index for index, info in enumerate(model.feature_info)
            if info['reduction'] >= FINEST_STRIDE}
    model.map_indices = tuple(last.values())
    model.prune_intermediate_layers(list(model.map_indices), prune_norm=False, prune_head=True)
    model.__class__ = _maps_class(type(model))
    return model


@cache
def _maps_class(cls: type[nn.Module]) -> type[nn.Module]:
    return type(cls.__name__, (MapsMixin, cls), {'__module__': __name__})
