"""Families of backbones that several libraries build, each with one neutral key layout.

A library says by a :class:`Layout` how its own keys map to the neutral ones. So each library needs
one table a family, not one for every other library, and weights pass between any two of them.
Renaming alone proves nothing; :mod:`densessl.transfer.handoff` compares the features.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from densessl.weights import families as shapes
from densessl.weights.group_norm import NormsByKind
from densessl.weights.keymap import KeyMap, State

# What looking at the shapes of tensors raises, where they are those of no network.
ODD_SHAPES = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Family:
    """Backbones of one architecture.

    Attributes:
        name: in the plural, for messages.
        shape: what the numbers of a neutral state dict say (depth, widths …), or None if it is
            no member.
        image_size: pixels of the image on which members of two libraries are compared.
    """

    name: str
    shape: Callable[[State], Any]
    image_size: int = 224


# Keys as in the authors' code, which most checkpoints follow:
# conv1, bn1, layer1.0.conv1 … (He et al. 2016, as every PyTorch library has it)
RESNET = Family('ResNets with a plain 7×7 stem', shapes.resnet_shape)
# the same with conv1.{0,1,3,4,6}, bn1; downsample.{1,2} after an average pooling, if it has one
DEEP_STEM = Family('ResNets with a deep stem of three 3×3 convolutions (V1c, V1d)',
                   shapes.deep_stem_shape)
# downsample_layers.0.0, stages.0.0.dwconv … (facebookresearch/ConvNeXt)
CONVNEXT = Family('ConvNeXts', shapes.convnext_shape)
# patch_embed.proj, layers.0.blocks.0.attn.qkv … (microsoft/Swin-Transformer). At 448 pixels every
# map is a whole number of windows and more than one, so libraries that pad before or after
# shifting, or do not shift within a single window, all compute the same.
SWIN = Family('Swin Transformers', shapes.swin_shape, image_size=448)
# patch_embed.proj, blocks.0.attn.qkv … (google-research/vision_transformer's PyTorch ports)
VIT = Family('Vision Transformers', shapes.vit_shape)


@dataclass(frozen=True)
class Layout:
    """How one library lays out the weights of a family.

    Attributes:
        family: the family.
        keys: the table from the library's keys to the neutral ones; None if they are the same.
        backbone: the library's backbone configuration for a member's shape, or None for a member
            that the library cannot build.
        buffers: of a written state dict, the buffers that follow from the weights and the library
            keeps in its state dict besides.
        ignored: pattern of keys that are such buffers.
    """

    family: Family
    keys: KeyMap | NormsByKind | None = None
    backbone: Callable[[Any], dict[str, Any] | None] = lambda shape: None
    buffers: Callable[[State], State] | None = None
    ignored: str | None = None

    def read(self, state: State) -> State | None:
        """``state`` with neutral keys, or None if it is not of this family and layout."""
        weights = {key: value for key, value in state.items()
                   if not (self.ignored and re.fullmatch(self.ignored, key))}
        try:
            neutral = self.keys.to_neutral(weights) if self.keys else weights
            return neutral if neutral and self.family.shape(neutral) is not None else None
        except ODD_SHAPES:
            return None

    def write(self, neutral: State) -> State | None:
        """A neutral state dict with the library's keys; None if some have no place in it."""
        renamed = self.keys.to_own(neutral) if self.keys else dict(neutral)
        return {**renamed, **self.buffers(renamed)} if renamed and self.buffers else renamed


def relative_positions(window: int) -> Tensor:
    """The index of each pair of cells of a window into a table of relative positions (Liu et al.
    2021, section 3.2): (window², window²) integers below (2·window − 1)²."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))    # (window², 2)
    down, right = (cells[:, None] - cells + window - 1).unbind(-1)
    return down * (2 * window - 1) + right


def position_buffers(own: Mapping[str, Tensor]) -> State:
    """For :attr:`Layout.buffers` of window attention: the (window², window²) index beside each
    table."""
    table = 'relative_position_bias_table'
    return {f'{key.removesuffix(table)}relative_position_index':
            relative_positions((round(value.shape[0] ** 0.5) + 1) // 2)
            for key, value in own.items() if key.endswith(table)}
