"""The transfer target ``torchvision``: builds its classification models as dense backbones."""
from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from densessl import TransferTarget
from densessl.bounds import parameters_of
from densessl.errors import UsageError
from densessl.transfer.foreign_checkpoints import CheckpointLayout
from densessl.transfer.target import PublishedWeights
from densessl.weights.group_norm import GROUPS
from densessl_plugins.torchvision.sets import SETS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from densessl.labels.class_labels import ClassImages
    from densessl.weights.key_layouts import Layout


class Torchvision(TransferTarget):
    name = 'torchvision'
    image_sets = tuple(SETS)

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        from torchvision.models import VisionTransformer

        from densessl_plugins.torchvision.maps import StageMaps, ViTMaps, links_of
        model = _whole_model(name, kwargs)
        if isinstance(model, VisionTransformer):
            return ViTMaps(model)
        return StageMaps(model, list(links_of(model, name)))

    def backbone_names(self) -> list[str]:
        return list(_builders())

    def backbone_arguments(self, name: str, arguments: Mapping[str, Any]
                           ) -> Mapping[str, Collection[str] | None]:
        builder = _builders()[name]
        named = [*parameters_of(_network_of(builder)), *inspect.signature(builder).parameters]
        variants = {'width': None, 'norm': GROUPS, 'output_stride': None}
        return {**dict.fromkeys({*named} - {'self', 'kwargs', '**', 'progress', 'weights'}),
                **variants}

    def own_files(self, name: str, backbone: nn.Module, **kwargs: Any) -> list[CheckpointLayout]:
        from torchvision.models import get_model_weights

        model = _whole_model(name, kwargs)
        heads = [re.escape(key) for key in model.state_dict().keys() - backbone.state_dict().keys()]
        presets = next(iter(get_model_weights(name))).transforms()
        mean, std = (tuple(255 * value for value in values)
                     for values in (presets.mean, presets.std))
        return [CheckpointLayout(self.name, f'torchvision’s own keys of {name}',
                                 heads='|'.join(sorted(heads)) or r'(?!)', mean=mean, std=std)]

    def published_weights(self, name: str) -> PublishedWeights:
        import torch
        from torchvision.models import get_model_weights

        address = get_model_weights(name).DEFAULT.url
        path = Path(torch.hub.get_dir()) / 'checkpoints' / address.rpartition('/')[2]

        def fetch() -> Path:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                hashed = re.search(r'-([a-f0-9]{8,})\.', path.name)
                torch.hub.download_url_to_file(address, str(path), hashed and hashed[1])
            return path
        return PublishedWeights(address, fetch)

    def read_image_set(self, name: str, root: Path) -> tuple[ClassImages, ClassImages | None]:
        from densessl_plugins.torchvision.sets import read_set
        return read_set(name, root)

    def layouts(self) -> list[Layout]:
        from densessl_plugins.torchvision.layouts import LAYOUTS
        return LAYOUTS

    def checkpoints(self) -> list[CheckpointLayout]:
        from densessl_plugins.torchvision.checkpoints import CHECKPOINTS
        return CHECKPOINTS


def _builders() -> dict[str, Callable[..., nn.Module]]:
    """The classification models that are chains of feature modules, by name."""
    import torchvision
    from torchvision.models import GoogLeNet, Inception3, MaxVit, get_model_builder, list_models
    found = {name: get_model_builder(name) for name in list_models(module=torchvision.models)}
    return {name: builder for name, builder in found.items()
            if not issubclass(_network_of(builder), (GoogLeNet, Inception3, MaxVit))}


def _network_of(builder: Callable[..., nn.Module]) -> type[nn.Module]:
    """The class that a builder says it returns."""
    returned = inspect.signature(builder).return_annotation
    return builder.__globals__[returned] if isinstance(returned, str) else returned


def _whole_model(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """torchvision's model, or our variant of it, with its classifier."""
    import torchvision
    from torchvision.models import ResNet, get_model, list_models

    from densessl_plugins.torchvision.norms import norm_layer
    from densessl_plugins.torchvision.strides import set_output_stride
    from densessl_plugins.torchvision.wide import widen
    models = list_models(module=torchvision.models)
    if name not in models:
        close = ', '.join(get_close_matches(name, models, n=5, cutoff=0.4)) or 'nothing'
        raise UsageError(f'unknown torchvision model {name!r}; close to it: {close}; all of '
                         f'them: torchvision.models.list_models(module=torchvision.models)')
    if kwargs.get('weights') is None:
        kwargs.setdefault('num_classes', 1)   # the classifier is dropped: keep it small
    width = kwargs.pop('width', 1)   # of ResNets: all channels times this
    norm = kwargs.pop('norm', None)  # of ResNets: instead of batch norm
    output_stride = kwargs.pop('output_stride', None)   # of ResNets: of the last map
    if output_stride is not None and kwargs.get('replace_stride_with_dilation'):
        raise UsageError(f'torchvision.{name}: give output_stride or replace_stride_with_dilation, '
                         f'not both')
    if norm is not None:
        if width != 1 or kwargs.get('weights') is not None:
            raise UsageError(f'torchvision.{name}: norm {norm!r} cannot be combined with width '
                             f'or weights')
        kwargs['norm_layer'] = norm_layer(norm)
    try:
        model = get_model(name, **kwargs)
    except (TypeError, ValueError, KeyError) as error:
        raise UsageError(f'torchvision.{name} cannot be built: {error}') from error
    if norm is not None and not isinstance(model, ResNet):
        raise UsageError(f'torchvision.{name} takes no norm {norm!r}: it is for ResNets')
    if width != 1:
        widen(model, width, zero_init_residual=kwargs.get('zero_init_residual', False))
    if output_stride is not None:
        set_output_stride(model, name, output_stride)
    return model
