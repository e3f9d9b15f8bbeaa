"""timm's keys of the families that other libraries build, too."""
from __future__ import annotations

from typing import Any

from torch import Tensor

from densessl.weights import families as shapes
from densessl.weights.key_layouts import CONVNEXT, DEEP_STEM, RESNET, SWIN, VIT, Layout
from densessl.weights.keymap import KeyMap, Rename


def _matrix(value: Tensor) -> Tensor:
    """A 1×1 convolution (O, I, 1, 1), as small ConvNeXts have it, as the linear layer (O, I)."""
    return value.reshape(value.shape[0], -1) if value.ndim == 4 else value


_CONVNEXT = KeyMap([
    Rename('stem.{i}.{p}', 'downsample_layers.0.{i}.{p}'),
    Rename('stages.{i}.downsample.{j}.{p}', 'downsample_layers.{i}.{j}.{p}'),
    Rename('stages.{i}.blocks.{j}.gamma', 'stages.{i}.{j}.gamma'),
    Rename('stages.{i}.blocks.{j}.conv_dw.{p}', 'stages.{i}.{j}.dwconv.{p}'),
    Rename('stages.{i}.blocks.{j}.norm.{p}', 'stages.{i}.{j}.norm.{p}'),
    Rename('stages.{i}.blocks.{j}.mlp.fc1.{p}', 'stages.{i}.{j}.pwconv1.{p}', read=_matrix),
    Rename('stages.{i}.blocks.{j}.mlp.fc2.{p}', 'stages.{i}.{j}.pwconv2.{p}', read=_matrix),
])
_SWIN = KeyMap([
    Rename('patch_embed.{*}', 'patch_embed.{*}'),
    Rename('layers.{i}.blocks.{j}.{*}', 'layers.{i}.blocks.{j}.{*}'),
    # the authors end a stage with its downsampling; timm begins the next one with it
    *(Rename(f'layers.{stage + 1}.downsample.{{*}}', f'layers.{stage}.downsample.{{*}}')
      for stage in range(3)),
    Rename('norm.{p}', 'norm.{p}'),
])
_VIT = KeyMap([
    Rename('cls_token', 'cls_token'), Rename('pos_embed', 'pos_embed'),
    Rename('patch_embed.proj.{p}', 'patch_embed.proj.{p}'), Rename('norm.{p}', 'norm.{p}'),
    *(Rename('blocks.{i}.' + part, 'blocks.{i}.' + part) for part in (
        'norm1.{p}', 'norm2.{p}', 'attn.qkv.{p}', 'attn.proj.{p}', 'mlp.fc1.{p}', 'mlp.fc2.{p}')),
])

_GROUP_NORMS = {1: 'groupnorm1', 32: 'groupnorm'}   # by the number of groups


def _resnet(shape: shapes.ResNetShape) -> dict[str, Any] | None:
    import timm
    known = shape.depth is not None and shape.width == 1 and timm.is_model(shape.name)
    if not known or (shape.norm_groups and shape.norm_groups not in _GROUP_NORMS):
        return None
    norm = {'norm_layer': _GROUP_NORMS[shape.norm_groups]} if shape.norm_groups else {}
    return {'type': f'timm.{shape.name}', **norm}


def _deep_stem(shape: shapes.DeepStemShape) -> dict[str, Any] | None:
    cfg = _resnet(shape.resnet)
    if cfg is None or shape.stem[0] * 2 != shape.stem[2] or shape.stem[0] != shape.stem[1]:
        return None
    return {**cfg, 'stem_width': shape.stem[0], 'stem_type': 'deep',
            'avg_down': shape.average_down}


def _convnext(shape: shapes.ConvNeXtShape) -> dict[str, Any]:
    return {'type': 'timm.convnext_tiny', 'depths': shape.depths, 'dims': shape.widths}


def _swin(shape: shapes.SwinShape) -> dict[str, Any]:
    return {'type': 'timm.swin_tiny_patch4_window7_224', 'embed_dim': shape.width,
            'depths': shape.depths, 'num_heads': shape.heads, 'window_size': shape.window}


def _vit(shape: shapes.ViTShape) -> dict[str, Any]:
    return {'type': 'timm.vit_base_patch16_224', 'embed_dim': shape.width, 'depth': shape.depth,
            'num_heads': shape.heads, 'patch_size': shape.patch, 'img_size': shape.image_size,
            'mlp_ratio': shape.hidden / shape.width}


LAYOUTS = [Layout(RESNET, backbone=_resnet), Layout(DEEP_STEM, backbone=_deep_stem),
           Layout(CONVNEXT, _CONVNEXT, _convnext), Layout(SWIN, _SWIN, _swin),
           Layout(VIT, _VIT, _vit)]
