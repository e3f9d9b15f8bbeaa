"""torchvision's keys of the families that other libraries build, too."""
from __future__ import annotations

from typing import Any

from torch import Tensor

from densessl.weights import families as shapes
from densessl.weights.group_norm import GROUPS
from densessl.weights.key_layouts import CONVNEXT, RESNET, SWIN, VIT, Layout, position_buffers
from densessl.weights.keymap import KeyMap, Rename

CONVNEXTS = {((3, 3, 9, 3), 96): 'convnext_tiny', ((3, 3, 27, 3), 96): 'convnext_small',
             ((3, 3, 27, 3), 128): 'convnext_base', ((3, 3, 27, 3), 192): 'convnext_large'}
SWINS = {(96, (2, 2, 6, 2)): 'swin_t', (96, (2, 2, 18, 2)): 'swin_s',
         (128, (2, 2, 18, 2)): 'swin_b'}
VITS = {(768, 12, 16): 'vit_b_16', (768, 12, 32): 'vit_b_32', (1024, 24, 16): 'vit_l_16',
        (1024, 24, 32): 'vit_l_32'}


def _layer_scale(value: Tensor) -> Tensor:
    return value.reshape(-1, 1, 1)


def _vector(value: Tensor) -> Tensor:
    return value.reshape(-1)


def _stages(own: str, neutral: str, **changes: Any) -> list[Rename]:
    """One line a stage: stage s is ``features.{2s + 1}``."""
    return [Rename(own.format(2 * stage + 1), neutral.format(stage), **changes)
            for stage in range(4)]


def _between(own: str, neutral: str, first: int = 0) -> list[Rename]:
    """One line for what stands between stages s and s + 1: ``features.{2s + 2}``."""
    return [Rename(own.format(2 * stage + 2), neutral.format(stage + first))
            for stage in range(3)]


_CONVNEXT = KeyMap([
    Rename('features.0.{i}.{p}', 'downsample_layers.0.{i}.{p}'),
    *_between('features.{}.{{i}}.{{p}}', 'downsample_layers.{}.{{i}}.{{p}}', first=1),
    *_stages('features.{}.{{j}}.layer_scale', 'stages.{}.{{j}}.gamma',
             read=_vector, write=_layer_scale),
    *_stages('features.{}.{{j}}.block.0.{{p}}', 'stages.{}.{{j}}.dwconv.{{p}}'),
    *_stages('features.{}.{{j}}.block.2.{{p}}', 'stages.{}.{{j}}.norm.{{p}}'),
    *_stages('features.{}.{{j}}.block.3.{{p}}', 'stages.{}.{{j}}.pwconv1.{{p}}'),
    *_stages('features.{}.{{j}}.block.5.{{p}}', 'stages.{}.{{j}}.pwconv2.{{p}}'),
])
_SWIN = KeyMap([
    Rename('features.0.0.{p}', 'patch_embed.proj.{p}'),
    Rename('features.0.2.{p}', 'patch_embed.norm.{p}'),
    *_stages('features.{}.{{j}}.mlp.0.{{p}}', 'layers.{}.blocks.{{j}}.mlp.fc1.{{p}}'),
    *_stages('features.{}.{{j}}.mlp.3.{{p}}', 'layers.{}.blocks.{{j}}.mlp.fc2.{{p}}'),
    *_stages('features.{}.{{j}}.{{*}}', 'layers.{}.blocks.{{j}}.{{*}}'),
    *_between('features.{}.norm.{{p}}', 'layers.{}.downsample.norm.{{p}}'),
    *_between('features.{}.reduction.weight', 'layers.{}.downsample.reduction.weight'),
    Rename('norm.{p}', 'norm.{p}'),
])
_VIT_BLOCK, _VIT_NEUTRAL = 'encoder.layers.encoder_layer_{i}.', 'blocks.{i}.'
_VIT = KeyMap([
    Rename('class_token', 'cls_token'), Rename('encoder.pos_embedding', 'pos_embed'),
    Rename('conv_proj.{p}', 'patch_embed.proj.{p}'), Rename('encoder.ln.{p}', 'norm.{p}'),
    *(Rename(_VIT_BLOCK + own, _VIT_NEUTRAL + neutral) for own, neutral in (
        ('ln_1.{p}', 'norm1.{p}'), ('ln_2.{p}', 'norm2.{p}'),
        ('self_attention.in_proj_{p}', 'attn.qkv.{p}'),
        ('self_attention.out_proj.{p}', 'attn.proj.{p}'),
        ('mlp.0.{p}', 'mlp.fc1.{p}'), ('mlp.3.{p}', 'mlp.fc2.{p}'))),
])


def _resnet(shape: shapes.ResNetShape) -> dict[str, Any] | None:
    if shape.depth is None or (shape.groups > 1 and shape.name not in (
            'resnext50_32x4d', 'resnext101_32x8d', 'resnext101_64x4d')):
        return None
    cfg: dict[str, Any] = {'type': f'torchvision.{shape.name}'}
    if shape.norm_groups:
        norm = next((norm for norm, groups in GROUPS.items() if groups == shape.norm_groups), None)
        return {**cfg, 'norm': norm} if norm and shape.width == 1 else None
    return {**cfg, 'width': shape.width} if shape.width > 1 else cfg


def _convnext(shape: shapes.ConvNeXtShape) -> dict[str, Any] | None:
    first = shape.widths[0]
    doubled = shape.widths == tuple(first * 2 ** stage for stage in range(4))
    return _named(CONVNEXTS.get((shape.depths, first)) if doubled else None)


def _swin(shape: shapes.SwinShape) -> dict[str, Any] | None:
    return _named(SWINS.get((shape.width, shape.depths)) if shape.window == 7 else None)


def _vit(shape: shapes.ViTShape) -> dict[str, Any] | None:
    cfg = _named(VITS.get((shape.width, shape.depth, shape.patch)))
    return cfg if cfg is None or shape.image_size == 224 else {
        **cfg, 'image_size': shape.image_size}


def _named(name: str | None) -> dict[str, Any] | None:
    return {'type': f'torchvision.{name}'} if name else None


LAYOUTS = [
    Layout(RESNET, backbone=_resnet), Layout(CONVNEXT, _CONVNEXT, _convnext),
    Layout(SWIN, _SWIN, _swin,
           lambda own: {key: index.flatten() for key, index in position_buffers(own).items()},
           r'.*\.relative_position_index'),
    Layout(VIT, _VIT, _vit)]
