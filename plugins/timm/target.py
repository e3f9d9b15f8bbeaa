"""The transfer target ``timm``: builds its models as dense backbones."""
from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import nn

from densessl import TransferTarget
from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.transfer.checkpoints import CheckpointLayout
    from densessl.transfer.layouts import Layout


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
        # published with: where its family can take any size, let it, and let Swin shift windows
        # also in the stage that is a single window at 224 pixels, as detectors' Swins do.
        takes = inspect.signature(type(model).__init__).parameters
        flags = {'dynamic_img_size': True, 'always_partition': True}
        if 'dynamic_img_size' not in takes:
            flags['strict_img_size'] = False
        flags = {flag: value for flag, value in flags.items()
                 if flag in takes and flag not in kwargs}
        if flags:
            model = _create(name, {**kwargs, **flags})
        if not hasattr(model, 'forward_intermediates') or not getattr(model, 'feature_info', None):
            raise UsageError(f'timm.{name} has no forward_intermediates and gives no feature maps; '
                             f'choose a model of a family that has it (most have)')
        return as_maps(model)

    def layouts(self) -> list[Layout]:
        from densessl_plugins.timm.layouts import LAYOUTS
        return LAYOUTS

    def checkpoints(self) -> list[CheckpointLayout]:
        from densessl_plugins.timm.checkpoints import CHECKPOINTS
        return CHECKPOINTS


def _create(name: str, kwargs: dict[str, Any]) -> nn.Module:
    import timm
    try:
        return timm.create_model(name, **{'pretrained': False, 'num_classes': 0, **kwargs})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f'timm.{name} cannot be built: {error}') from error
