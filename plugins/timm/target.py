"""The transfer target ``timm``: builds its models as dense backbones."""
from __future__ import annotations

import inspect
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from densessl import TransferTarget
from densessl.bounds import parameters_of
from densessl.errors import UsageError
from densessl.transfer.foreign_checkpoints import CheckpointLayout
from densessl.transfer.target import PublishedWeights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from densessl.weights.key_layouts import Layout

# Buffers that follow from the architecture; files of older versions hold them.
_DERIVED = r'.*\.(?:relative_position_index|relative_coords_table|attn_mask)'


BATCH_NORM = ('bn_eps', 'bn_momentum', 'bn_tf')     # taken before the class is built
OF_THE_CODE = ('cfg', 'device', 'dtype')            # objects of Python, or where it is built


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

    def backbone_names(self) -> list[str]:
        import timm
        return [*timm.list_models(), *timm.list_pretrained()]     # alone, and with a tag

    def backbone_arguments(self, name: str, arguments: Mapping[str, Any]
                           ) -> Mapping[str, Collection[str] | None]:
        return dict.fromkeys(
            {*BATCH_NORM, *(key for cls in _classes_of(name) for key in parameters_of(cls))}
            - {'self', '**', *OF_THE_CODE})

    def layouts(self) -> list[Layout]:
        from densessl_plugins.timm.layouts import LAYOUTS
        return LAYOUTS

    def own_files(self, name: str, backbone: nn.Module, **kwargs: Any) -> list[CheckpointLayout]:
        model = _create(name, {'num_classes': 1, **kwargs})
        heads = [re.escape(key) for key in model.state_dict().keys() - backbone.state_dict().keys()]
        cfg = model.default_cfg
        mean, std = (tuple(255 * value for value in cfg[key]) for key in ('mean', 'std'))
        return [CheckpointLayout(
            self.name, f'timm’s own keys of {name}', heads='|'.join([*sorted(heads), _DERIVED]),
            mean=mean, std=std, image_size=cfg['input_size'][-1])]

    def published_weights(self, name: str) -> PublishedWeights | None:
        from huggingface_hub import hf_hub_download, hf_hub_url
        from timm.models import get_pretrained_cfg
        from timm.models._hub import download_cached_file

        cfg = get_pretrained_cfg(name)
        if cfg is None or not cfg.has_weights:
            return None
        terms = cfg.license or ''
        if not cfg.hf_hub_id:
            return PublishedWeights(
                cfg.url, lambda: Path(download_cached_file(cfg.url, check_hash=True)), terms)
        file = cfg.hf_hub_filename or 'model.safetensors'

        def fetch() -> Path:
            try:    # without asking the network whether there is a newer one
                return Path(hf_hub_download(cfg.hf_hub_id, file, local_files_only=True))
            except OSError:
                return Path(hf_hub_download(cfg.hf_hub_id, file))
        return PublishedWeights(hf_hub_url(cfg.hf_hub_id, file), fetch, terms)

    def checkpoints(self) -> list[CheckpointLayout]:
        from densessl_plugins.timm.checkpoints import CHECKPOINTS
        return CHECKPOINTS


def _classes_of(name: str) -> list[type]:
    """What may be built by this name: the class that its function says it returns, or else all
    networks of its module."""
    from timm.models import model_entrypoint
    function = model_entrypoint(name.partition('.')[0])
    returned = inspect.signature(function).return_annotation
    if isinstance(returned, str):
        returned = function.__globals__.get(returned)
    if isinstance(returned, type) and issubclass(returned, nn.Module):
        return [returned]
    return [cls for cls in vars(sys.modules[function.__module__]).values()
            if isinstance(cls, type) and cls.__module__ == function.__module__
            and hasattr(cls, 'forward_intermediates')]


def _create(name: str, kwargs: dict[str, Any]) -> nn.Module:
    import timm
    try:
        return timm.create_model(name, **{'pretrained': False, 'num_classes': 0, **kwargs})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(f'timm.{name} cannot be built: {error}') from error
