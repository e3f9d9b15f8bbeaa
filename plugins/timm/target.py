"""The transfer target ``timm``: builds its models as dense backbones."""
from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import nn

from densessl import TransferTarget
from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.transfer.target import State


class Timm(TransferTarget):
    name = 'timm'

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        import timm

        from densessl_plugins.timm.maps import as_maps
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
        return as_maps(model)

    def translate(self, state: State, source: str) -> State:
        from densessl.transfer.group_norm import with_norm_names
        from densessl.transfer.layouts import is_plain_resnet
        if is_plain_resnet(state):
            return with_norm_names(state, 'bn')   # whatever kind of norm it is
        if source.partition('.')[0] == self.name:
            return dict(state)
        raise UsageError(
            f'no exact translation of {source!r} to timm is known; possible are timm backbones '
            f'and ResNets with a plain 7×7 stem from any library')

    def counterpart(self, state: State, source: Mapping[str, Any]) -> dict[str, Any] | None:
        from densessl.transfer.layouts import resnet_shape
        shape = resnet_shape(state)
        if shape is None or shape.group_norm:
            return super().counterpart(state, source)
        return {'type': f'timm.{shape.name}'}


def _create(name: str, kwargs: dict[str, Any]) -> nn.Module:
    import timm
    try:
        return timm.create_model(name, **{'pretrained': False, 'num_classes': 0, **kwargs})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f'timm.{name} cannot be built: {error}') from error
