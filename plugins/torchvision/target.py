"""The transfer target ``torchvision``: builds its classification models as dense backbones."""
from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import nn

from densessl import TransferTarget
from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.transfer.checkpoints import CheckpointLayout
    from densessl.transfer.layouts import Layout


class Torchvision(TransferTarget):
    name = 'torchvision'

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        import torchvision
        from torchvision.models import VisionTransformer, get_model, list_models

        from densessl_plugins.torchvision.maps import StageMaps, ViTMaps, links_of
        from densessl_plugins.torchvision.wide import widen
        models = list_models(module=torchvision.models)
        if name not in models:
            close = ', '.join(get_close_matches(name, models, n=5, cutoff=0.4)) or 'nothing'
            raise UsageError(f'unknown torchvision model {name!r}; close to it: {close}; all of '
                             f'them: torchvision.models.list_models(module=torchvision.models)')
        if kwargs.get('weights') is None:
            kwargs.setdefault('num_classes', 1)   # the classifier is dropped: keep it small
        width = kwargs.pop('width', 1)   # of ResNets: all channels times this
        try:
            model = get_model(name, **kwargs)
        except (TypeError, ValueError, KeyError) as error:
            raise UsageError(f'torchvision.{name} cannot be built: {error}') from error
        if width != 1:
            widen(model, width, zero_init_residual=kwargs.get('zero_init_residual', False))
        if isinstance(model, VisionTransformer):
            return ViTMaps(model)
        return StageMaps(model, list(links_of(model, name)))

    def layouts(self) -> list[Layout]:
        from densessl_plugins.torchvision.layouts import LAYOUTS
        return LAYOUTS

    def checkpoints(self) -> list[CheckpointLayout]:
        from densessl_plugins.torchvision.checkpoints import CHECKPOINTS
        return CHECKPOINTS
