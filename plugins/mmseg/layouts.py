"""MMSegmentation's keys of backbones that MMDetection does not have."""
from __future__ import annotations

from typing import Any

from densessl.weights import families as shapes
from densessl.weights.key_layouts import CONVNEXT, VIT, Layout
from densessl.weights.keymap import KeyMap, Rename

_VIT = KeyMap([
    Rename('cls_token', 'cls_token'), Rename('pos_embed', 'pos_embed'),
    Rename('patch_embed.projection.{p}', 'patch_embed.proj.{p}'),
    Rename('ln1.{p}', 'norm.{p}'),
    *(Rename('layers.{i}.' + own, 'blocks.{i}.' + neutral) for own, neutral in (
        ('ln1.{p}', 'norm1.{p}'), ('ln2.{p}', 'norm2.{p}'),
        ('attn.attn.in_proj_{p}', 'attn.qkv.{p}'), ('attn.attn.out_proj.{p}', 'attn.proj.{p}'),
        ('ffn.layers.0.0.{p}', 'mlp.fc1.{p}'), ('ffn.layers.1.{p}', 'mlp.fc2.{p}'))),
])
# The ConvNeXt of these libraries' configs is mmpretrain's, which is not required here; what they
# have themselves is MMSegmentation's TIMMBackbone, which builds timm's.
_STAGE = 'timm_model.stages_{i}.'
_CONVNEXT = KeyMap([
    Rename('timm_model.stem_{i}.{p}', 'downsample_layers.0.{i}.{p}'),
    Rename(_STAGE + 'downsample.{j}.{p}', 'downsample_layers.{i}.{j}.{p}'),
    Rename(_STAGE + 'blocks.{j}.gamma', 'stages.{i}.{j}.gamma'),
    Rename(_STAGE + 'blocks.{j}.conv_dw.{p}', 'stages.{i}.{j}.dwconv.{p}'),
    Rename(_STAGE + 'blocks.{j}.norm.{p}', 'stages.{i}.{j}.norm.{p}'),
    Rename(_STAGE + 'blocks.{j}.mlp.fc1.{p}', 'stages.{i}.{j}.pwconv1.{p}'),
    Rename(_STAGE + 'blocks.{j}.mlp.fc2.{p}', 'stages.{i}.{j}.pwconv2.{p}'),
])


def _vit(shape: shapes.ViTShape) -> dict[str, Any] | None:
    if shape.hidden % shape.width:
        return None
    return {'type': 'mmseg.VisionTransformer', 'img_size': shape.image_size,
            'patch_size': shape.patch, 'embed_dims': shape.width, 'num_layers': shape.depth,
            'num_heads': shape.heads, 'mlp_ratio': shape.hidden // shape.width,
            'patch_bias': True, 'final_norm': True, 'norm_cfg': {'type': 'LN', 'eps': 1e-6}}


def convnext_layout(kind: str) -> Layout:
    """ConvNeXt inside a TIMMBackbone, whose ``'TARGET.name'`` is ``kind``."""
    def backbone(shape: shapes.ConvNeXtShape) -> dict[str, Any]:
        return {'type': kind, 'model_name': 'convnext_tiny', 'pretrained': False,
                'depths': shape.depths, 'dims': shape.widths}
    return Layout(CONVNEXT, _CONVNEXT, backbone)


LAYOUTS = [Layout(VIT, _VIT, _vit), convnext_layout('mmseg.TIMMBackbone')]
