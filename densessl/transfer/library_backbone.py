"""Any library's backbone in a model of the libraries that are built on mmengine."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from densessl.backbones import build_backbone, feature_stages, finest_first
from densessl.errors import UsageError

PREFIX = 'network.'


class LibraryBackbone(BaseModule):
    """The backbone ``network`` of its own library, as a module that mmengine's can initialize.

    In a downstream config::

        backbone=dict(_delete_=True, type='LibraryBackbone', network='timm.tf_efficientnet_lite0')

    Args:
        network: ``'TARGET.name'``.
        out_indices: which of its maps, finest first, are given; all if None.
        init_cfg: mmengine's; fine-tuning puts the weights there.
        arguments: for the library's own builder.

    Raises:
        UsageError: no such network, or it has fewer maps.
    """

    def __init__(self, network: str, out_indices: Sequence[int] | None = None,
                 init_cfg: dict[str, Any] | None = None, **arguments: Any) -> None:
        super().__init__(init_cfg)
        self.network = build_backbone({'type': network, **arguments})
        self.out_indices = out_indices

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the chosen maps (B, C_i, H_i, W_i)."""
        maps = finest_first(self.network(image))
        if self.out_indices is None:
            return maps
        if max(self.out_indices) >= len(maps):
            raise UsageError(f'out_indices {tuple(self.out_indices)}: the network has '
                             f'{len(maps)} maps, 0 to {len(maps) - 1}')
        return tuple(maps[index] for index in self.out_indices)


def register() -> None:
    """Make ``type='LibraryBackbone'`` known to every library built on mmengine."""
    MODELS.register_module(module=LibraryBackbone, force=True)      # more than once is harmless


def is_library_backbone(backbone: Any) -> bool:
    """Whether a model's backbone configuration is one, by whatever scope it is named."""
    kind = str((backbone or {}).get('type'))
    return kind.rpartition('.')[2] == LibraryBackbone.__name__


def network_of(backbone: Mapping[str, Any]) -> str:
    """The ``'TARGET.name'`` in the configuration of a :class:`LibraryBackbone`."""
    network = backbone.get('network')
    if not isinstance(network, str):
        raise UsageError(f"model.backbone.network of the config: {network!r}; a LibraryBackbone "
                         f"needs the network's name, 'TARGET.name'")
    return network


def check_channels(model: Mapping[str, Any]) -> None:
    """Refuse a neck that expects maps of other channels than the network of a downstream
    ``model`` gives."""
    neck = model.get('neck') or {}
    expected = (neck[0] if isinstance(neck, (list, tuple)) else neck).get('in_channels')
    arguments = {key: value for key, value in model['backbone'].items()
                 if key not in ('type', 'init_cfg')}
    network_of(arguments)
    channels = [stage.channels for stage in feature_stages(LibraryBackbone(**arguments))]
    if isinstance(expected, (list, tuple)) and list(expected) != channels:
        raise UsageError(f'model.neck.in_channels of the config: {list(expected)}, but the maps of '
                         f'{arguments["network"]} have {channels} channels; set it so')
