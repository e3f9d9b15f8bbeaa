"""Backbones by name: ``'TARGET.name'`` is asked of that transfer target's plugin."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from densessl.errors import UsageError
from densessl.plugins import TRANSFER_TARGETS, load_plugins

# At any depth of the arguments. None and False are no source and may stand there.
LOADING = frozenset({
    'init_cfg', 'pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'pretrained_model_args',
    'weights', 'weights_backbone', 'checkpoint', 'checkpoint_path', 'cache_dir', 'load_from',
    'features_only', 'config', 'cfg_file', 'model_cfg', 'file', 'filename', 'path', 'url'})


@dataclass(frozen=True)
class Stage:
    """One feature map of a backbone: its channels and how many input pixels a cell spans."""

    channels: int
    stride: int


def build_backbone(cfg: Mapping[str, Any]) -> nn.Module:
    """Build the backbone that ``cfg`` describes, with random weights.

    Args:
        cfg: ``dict(type='TARGET.name', **kwargs)``; ``kwargs`` go to the library's own builder.

    Returns:
        A module that maps (B, 3, H, W) to a tuple of maps (B, C_i, H_i, W_i), finest first, with
        the library's own ``state_dict`` keys.

    Raises:
        UsageError: no ``TARGET.`` in the type, an unknown target, name or argument.
    """
    kwargs = dict(cfg)
    kind = kwargs.pop('type', None)
    target, dot, name = str(kind).partition('.')
    if not (dot and target and name):
        raise UsageError(
            f"backbone type {kind!r} must be 'TARGET.name', the library it comes from and its name "
            f"there; installed targets: {', '.join(target_names())}")
    return TRANSFER_TARGETS.get(target)().build_backbone(name, **kwargs)


def spelled(cfg: Mapping[str, Any]) -> str:
    """A backbone's configuration as a call, for messages: ``'TARGET.name(depth=18)'``."""
    arguments = ', '.join(f'{key}={value!r}' for key, value in cfg.items() if key != 'type')
    return f'{cfg["type"]}({arguments})'


def target_names() -> list[str]:
    """The names of the installed transfer targets, sorted."""
    load_plugins()
    return sorted(TRANSFER_TARGETS.module_dict)


def finest_first(maps: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Feature maps (B, C, H, W) as a tuple from the finest to the coarsest; equals keep their
    order."""
    maps = [maps] if isinstance(maps, Tensor) else maps
    return tuple(sorted(maps, key=lambda map_: -map_.shape[-1]))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within, a network is in evaluation mode; afterwards each part is in its own mode again."""
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()   # not chained: some libraries forget to return the module
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def feature_maps(backbone: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """The maps of ``image`` (B, 3, H, W) in evaluation mode, finest first; leaves modes and
    statistics as they were.

    Raises:
        UsageError: the backbone's arguments let it be built, but not run.
    """
    try:
        with evaluating(backbone):
            return finest_first(backbone(image))
    except (TypeError, AttributeError, LookupError) as error:
        raise UsageError(f'the backbone {type(backbone).__name__} does not run on an image: '
                         f'{type(error).__name__}: {error}'.splitlines()[0]) from error


def feature_stages(backbone: nn.Module, size: int = 224) -> list[Stage]:
    """Find the channels and strides of a backbone's maps by a dry run on a blank image.

    Args:
        backbone: maps (B, 3, H, W) to a tuple of maps.
        size: height and width of the blank image in pixels.

    Raises:
        UsageError: the backbone does not take an image of that size.
    """
    weight = next(backbone.parameters())
    blank = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    try:
        maps = feature_maps(backbone, blank)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(f'the backbone {type(backbone).__name__} does not take an image of '
                         f'{size}×{size} pixels: {error}') from error
    return [Stage(map_.shape[1], round(size / map_.shape[-1])) for map_ in maps]


def feature_stage(backbone: nn.Module, index: int, size: int = 224) -> Stage:
    """One of :func:`feature_stages`, by its index; negative ones count from the last.

    Raises:
        UsageError: the backbone has no such feature map.
    """
    stages = feature_stages(backbone, size)
    if not -len(stages) <= index < len(stages):
        strides = ', '.join(str(stage.stride) for stage in stages)
        raise UsageError(f'stage {index}: the backbone {type(backbone).__name__} has '
                         f'{len(stages)} feature maps (strides {strides}), 0 to '
                         f'{len(stages) - 1}, or from the end -1 to -{len(stages)}')
    return stages[index]


def without_sources(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's configuration as provenance states it: the weights are in the file, so whatever
    loaded others before the training is switched off."""
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: (False if one is True else None) if key in LOADING else plain(one)
                    for key, one in value.items()}
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    return plain(cfg)
