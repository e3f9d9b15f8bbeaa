"""Key layouts that the libraries built on mmengine share."""
from __future__ import annotations

from typing import Any

from torch import Tensor

from densessl.weights import families as shapes
from densessl.weights.group_norm import NormsByKind, group_norm
from densessl.weights.key_layouts import DEEP_STEM, RESNET, SWIN, Layout, position_buffers
from densessl.weights.keymap import KeyMap, Rename


def channels_outside(value: Tensor) -> Tensor:
    """Reorder the inputs of a Swin patch merging from (column, row, channel), the order in which
    the authors' code concatenates a 2×2 neighborhood, to (channel, row, column), the order of
    ``nn.Unfold``. The last axis is reordered: (…, 4·C) → (…, 4·C)."""
    return value.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)


def channels_inside(value: Tensor) -> Tensor:
    """The inverse of :func:`channels_outside`."""
    return value.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)


_DEEP_STEM = KeyMap([
    Rename('stem.7.{n}', 'bn1.{n}'),
    Rename('stem.{i}.{n}', 'conv1.{i}.{n}'),
    Rename('layer{i}.{*}', 'layer{i}.{*}'),
])
_SWIN = KeyMap([
    Rename('patch_embed.projection.{p}', 'patch_embed.proj.{p}'),
    Rename('patch_embed.norm.{p}', 'patch_embed.norm.{p}'),
    Rename('stages.{i}.blocks.{j}.attn.w_msa.{*}', 'layers.{i}.blocks.{j}.attn.{*}'),
    Rename('stages.{i}.blocks.{j}.ffn.layers.0.0.{p}', 'layers.{i}.blocks.{j}.mlp.fc1.{p}'),
    Rename('stages.{i}.blocks.{j}.ffn.layers.1.{p}', 'layers.{i}.blocks.{j}.mlp.fc2.{p}'),
    Rename('stages.{i}.blocks.{j}.norm1.{p}', 'layers.{i}.blocks.{j}.norm1.{p}'),
    Rename('stages.{i}.blocks.{j}.norm2.{p}', 'layers.{i}.blocks.{j}.norm2.{p}'),
    Rename('stages.{i}.downsample.norm.{p}', 'layers.{i}.downsample.norm.{p}',
           channels_inside, channels_outside),
    Rename('stages.{i}.downsample.reduction.weight', 'layers.{i}.downsample.reduction.weight',
           channels_inside, channels_outside),
    Rename('norm3.{p}', 'norm.{p}'),
])


def engine_layouts(library: str) -> list[Layout]:
    """The layouts of ``library``'s ResNet, ResNeXt and SwinTransformer."""
    def resnet(shape: shapes.ResNetShape) -> dict[str, Any] | None:
        if shape.depth is None:
            return None
        wide = {'stem_channels': 64 * shape.width, 'base_channels': 64 * shape.width}
        cfg = {'type': f'{library}.ResNet', 'depth': shape.depth,
               **(wide if shape.width > 1 else {}),
               **({'norm_cfg': group_norm(shape.norm_groups)} if shape.norm_groups else {})}
        if shape.groups > 1:
            return {**cfg, 'type': f'{library}.ResNeXt', 'groups': shape.groups,
                    'base_width': shape.width_per_group}
        return cfg if shape.width_per_group == 64 else None   # their ResNet widens no 3×3 alone

    def deep_stem(shape: shapes.DeepStemShape) -> dict[str, Any] | None:
        cfg = resnet(shape.resnet)
        if cfg is None or shape.stem[0] * 2 != shape.stem[2] or shape.stem[0] != shape.stem[1]:
            return None
        return {**cfg, 'deep_stem': True, 'avg_down': shape.average_down}

    def swin(shape: shapes.SwinShape) -> dict[str, Any]:
        return {'type': f'{library}.SwinTransformer', 'embed_dims': shape.width,
                'depths': shape.depths, 'num_heads': shape.heads, 'window_size': shape.window}

    return [Layout(RESNET, NormsByKind(), resnet),
            Layout(DEEP_STEM, _DEEP_STEM, deep_stem),
            Layout(SWIN, _SWIN, swin, position_buffers, r'.*\.relative_position_index')]
