"""Which member of its family a backbone is, told by the names and shapes of its weights."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from densessl.weights.group_norm import group_count, has_group_norm

_BN = r'\.(weight|bias|running_mean|running_var|num_batches_tracked)'
_BLOCK = r'layer[1-4]\.\d+\.((conv[123]|downsample\.{conv})\.weight|([bg]n[123]|downsample\.{bn})'
_RESNET_KEY = re.compile(
    r'conv1\.weight|[bg]n1' + _BN + '|' + _BLOCK.format(conv=0, bn=1) + _BN + ')')
_DEEP_STEM = r'conv1\.[036]\.weight|(conv1\.[14]|bn1)' + _BN + '|'
_DEEP_STEM_KEYS = {False: re.compile(_DEEP_STEM + _BLOCK.format(conv=0, bn=1) + _BN + ')'),
                   True: re.compile(_DEEP_STEM + _BLOCK.format(conv=1, bn=2) + _BN + ')')}
# (blocks of layer1 … layer4, bottleneck) → depth; He et al. 2016, table 1
_DEPTHS = {((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34, ((3, 4, 6, 3), True): 50,
           ((3, 4, 23, 3), True): 101, ((3, 8, 36, 3), True): 152}


def is_plain_resnet(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` is laid out as He et al.'s ResNet with a 7×7 stem: ``conv1``, ``bn1`` (or
    ``gn1``), ``layer1.0.conv1`` … and nothing else (deep stems, attention and blur pooling add
    keys).

    ResNeXt and wide ResNets have the same layout. Keys do not tell in which convolution a block
    strides; the function check does (:mod:`densessl.transfer.handoff`).
    """
    stem = state.get('conv1.weight')
    return (stem is not None and tuple(stem.shape[1:]) == (3, 7, 7)
            and all(_RESNET_KEY.fullmatch(key) for key in state))


@dataclass(frozen=True)
class ResNetShape:
    """What distinguishes the published members of the plain ResNet family.

    Attributes:
        depth: 18 … 152; None for another number of blocks.
        groups: of the 3×3 convolutions.
        width_per_group: channels of a group's 3×3 convolution in layer1.
        width: factor on all channels, the stem's too (SimCLR's 2× and 4×).
        norm_groups: in how many groups its norms normalize, 0 for batch norm; None for group norm
            while that is not known: weights do not tell.
    """

    depth: int | None
    groups: int = 1
    width_per_group: int = 64
    width: int = 1
    norm_groups: int | None = 0

    @property
    def name(self) -> str:
        """The name that the common model libraries share, such as ``resnext50_32x4d``."""
        if self.groups > 1:
            return f'resnext{self.depth}_{self.groups}x{self.width_per_group}d'
        if self.width_per_group > 64:
            return f'wide_resnet{self.depth}_{self.width_per_group // 64}'
        return f'resnet{self.depth}'


def resnet_shape(state: dict[str, Tensor]) -> ResNetShape | None:
    """The member of the plain ResNet family whose weights ``state`` holds, or None."""
    return _resnet_shape(state, state['conv1.weight'].shape[0]) if is_plain_resnet(state) else None


def with_groups(shape: Any, source: Mapping[str, Any]) -> Any:
    """``shape`` with the number of groups that the pretrained backbone's configuration tells of
    its group norms; None if it has such norms and the configuration does not tell."""
    if getattr(shape, 'norm_groups', 0) is not None:
        return shape
    groups = group_count(source)
    return replace(shape, norm_groups=groups) if groups else None


@dataclass(frozen=True)
class DeepStemShape:
    """A ResNet whose stem is three 3×3 convolutions.

    Attributes:
        resnet: the rest of it.
        stem: output channels of its three convolutions.
        average_down: whether the shortcuts average before their 1×1 convolution (V1d).
    """

    resnet: ResNetShape
    stem: tuple[int, int, int]
    average_down: bool


def deep_stem_shape(state: dict[str, Tensor]) -> DeepStemShape | None:
    """What kind of deep-stem ResNet ``state`` holds, or None."""
    convolutions = [state.get(f'conv1.{index}.weight') for index in (0, 3, 6)]
    if any(value is None or value.shape[2:] != (3, 3) for value in convolutions):
        return None
    for average_down, keys in _DEEP_STEM_KEYS.items():
        if all(keys.fullmatch(key) for key in state):
            stem = tuple(value.shape[0] for value in convolutions)
            return DeepStemShape(_resnet_shape(state, stem[2]), stem, average_down)
    return None


def _resnet_shape(state: dict[str, Tensor], stem: int) -> ResNetShape:
    blocks = tuple(_count(state, rf'layer{stage}\.(\d+)\.') for stage in (1, 2, 3, 4))
    bottleneck = 'layer1.0.conv3.weight' in state
    depth = _DEPTHS.get((blocks, bottleneck))
    width = stem // 64 if stem and stem % 64 == 0 else 0
    if 'layer1.0.conv2.weight' not in state or not width:
        return ResNetShape(None)
    channels, per_group = state['layer1.0.conv2.weight'].shape[:2]
    groups = channels // per_group
    if channels % width or (not bottleneck and channels != 64 * width):
        return ResNetShape(None)
    return ResNetShape(depth, groups, channels // width // groups, width,
                       None if has_group_norm(state) else 0)


@dataclass(frozen=True)
class ConvNeXtShape:
    """Blocks and channels of the four stages; published ones scale both."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


def convnext_shape(state: dict[str, Tensor]) -> ConvNeXtShape | None:
    """The shape of a ConvNeXt with a 4×4 patch stem, or None."""
    stem = state.get('downsample_layers.0.0.weight')
    if stem is None or tuple(stem.shape[1:]) != (3, 4, 4):
        return None
    depths = tuple(_count(state, rf'stages\.{stage}\.(\d+)\.') for stage in range(4))
    widths = tuple(state[key].shape[0] for key in
                   (f'stages.{stage}.0.dwconv.weight' for stage in range(4)) if key in state)
    return ConvNeXtShape(depths, widths) if len(widths) == 4 else None


@dataclass(frozen=True)
class SwinShape:
    """What distinguishes Swin Transformers (first version) with square windows."""

    width: int                # channels of the first stage; doubled at each following
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int               # cells on a side


def swin_shape(state: dict[str, Tensor]) -> SwinShape | None:
    """The shape of a Swin Transformer with 4×4 patches, or None."""
    patch = state.get('patch_embed.proj.weight')
    tables = [state.get(f'layers.{stage}.blocks.0.attn.relative_position_bias_table')
              for stage in range(4)]
    if patch is None or tuple(patch.shape[1:]) != (3, 4, 4) or any(t is None for t in tables):
        return None
    side = round(tables[0].shape[0] ** 0.5)
    if side % 2 == 0 or any(table.shape[0] != side ** 2 for table in tables):
        return None
    depths = tuple(_count(state, rf'layers\.{stage}\.blocks\.(\d+)\.') for stage in range(4))
    return SwinShape(patch.shape[0], depths, tuple(table.shape[1] for table in tables),
                     (side + 1) // 2)


@dataclass(frozen=True)
class ViTShape:
    """What distinguishes plain Vision Transformers with a class token.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: of attention; not in the weights: one for every 64 channels, as in every published
            member up to L.
        hidden: channels inside the MLP.
        patch: pixels on the side of a patch.
        image_size: pixels on the side of the image that its position embeddings are for.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    image_size: int


def vit_shape(state: dict[str, Tensor]) -> ViTShape | None:
    """The shape of a Vision Transformer with class token and learned positions, or None."""
    patch, positions = state.get('patch_embed.proj.weight'), state.get('pos_embed')
    hidden = state.get('blocks.0.mlp.fc1.weight')
    if patch is None or positions is None or hidden is None or 'cls_token' not in state:
        return None
    width, side = patch.shape[0], round((positions.shape[1] - 1) ** 0.5)
    if side ** 2 != positions.shape[1] - 1 or patch.shape[2] != patch.shape[3]:
        return None
    return ViTShape(width, _count(state, r'blocks\.(\d+)\.'), max(width // 64, 1),
                    hidden.shape[0], patch.shape[2], side * patch.shape[2])


def _count(state: dict[str, Tensor], pattern: str) -> int:
    """How many different numbers the keys have at the group of ``pattern``."""
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})
