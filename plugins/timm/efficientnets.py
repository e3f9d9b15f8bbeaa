"""EfficientNets (arXiv 1905.11946) and EfficientNet-Lites as lukemelas/EfficientNet-PyTorch and its
descendants name their layers, under timm's names.

Both mirror TensorFlow ('same' padding, epsilon 1e-3), as timm's ``tf_…`` models do.
"""
from __future__ import annotations

import re
from math import ceil
from typing import Any

from torch import Tensor

from densessl.weights.keymap import State

REPEATS = (1, 2, 2, 3, 3, 4, 1)   # blocks of each stage of B0 (table 1)
# depth and channels of the last stage, which tell the sizes apart
SIZES = {'b0': (1.0, 320), 'b1': (1.1, 320), 'b2': (1.2, 352), 'b3': (1.4, 384), 'b4': (1.8, 448),
         'b5': (2.2, 512), 'b6': (2.6, 576), 'b7': (3.1, 640), 'b8': (3.6, 704),
         'lite0': (1.0, 320), 'lite1': (1.1, 320), 'lite2': (1.2, 352), 'lite3': (1.4, 384),
         'lite4': (1.8, 448)}
# A block of the first stage does not expand its channels and lacks the first convolution.
_SEPARABLE = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_se_reduce': 'se.conv_reduce',
              '_se_expand': 'se.conv_expand', '_project_conv': 'conv_pw', '_bn2': 'bn2'}
_INVERTED = {'_expand_conv': 'conv_pw', '_bn0': 'bn1', '_depthwise_conv': 'conv_dw',
             '_bn1': 'bn2', '_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand',
             '_project_conv': 'conv_pwl', '_bn2': 'bn3'}
_STEM = {'_conv_stem': 'conv_stem', '_bn0': 'bn1'}
HEADS = r'_(?:fc|conv_head|bn1)\..+'   # timm's backbone ends before the last 1×1 convolution
_KEY = re.compile(r'(?:_blocks\.(?P<block>\d+)\.)?(?P<layer>_\w+)\.(?P<entry>\w+)')


class EfficientNetKeys:
    """The table of one kind: which stage a block belongs to depends on the size of the network.

    Args:
        lite: for the kind without squeeze and excitation, or for the one with.
    """

    def __init__(self, lite: bool) -> None:
        self.lite = lite

    def to_neutral(self, state: State) -> State | None:
        """``state`` with timm's keys, or None if it is of another kind or of no known size."""
        size = _size(state, self.lite)
        if size is None:
            return None
        places = [(stage, block) for stage, count in enumerate(_repeats(size))
                  for block in range(count)]
        renamed: State = {}
        for key, value in state.items():
            match = _KEY.fullmatch(key)
            stage, block = places[int(match['block'])] if match and match['block'] else (0, None)
            layers = _STEM if block is None else _INVERTED if stage else _SEPARABLE
            if match is None or match['layer'] not in layers:
                return None
            place = '' if block is None else f'blocks.{stage}.{block}.'
            renamed[f'{place}{layers[match["layer"]]}.{match["entry"]}'] = value
        return renamed

    def network(self, state: State) -> dict[str, Any] | None:
        """timm's backbone for a state dict with timm's keys; None if it is of no known size."""
        blocks = {re.match(r'blocks\.\d+\.\d+', key)[0] for key in state
                  if key.startswith('blocks.')}
        last = state.get('blocks.6.0.conv_pwl.weight')
        size = None if last is None else _known(self.lite, len(blocks), last)
        return size and {'type': f'timm.tf_efficientnet_{size}'}


def _size(state: State, lite: bool) -> str | None:
    """The key of :data:`SIZES` that a state dict with its authors' keys is of."""
    if lite == any('._se_reduce.' in key for key in state):
        return None
    numbers = {int(match['block']) for key in state
               if (match := _KEY.fullmatch(key)) and match['block']}
    last = state.get(f'_blocks.{len(numbers) - 1}._project_conv.weight')
    if last is None or numbers != set(range(len(numbers))):
        return None
    return _known(lite, len(numbers), last)


def _known(lite: bool, blocks: int, last: Tensor) -> str | None:
    """The size with this many blocks and this last convolution (C, …)."""
    return next((size for size, (_, width) in SIZES.items()
                 if size.startswith('lite') == lite and last.shape[:1] == (width,)
                 and sum(_repeats(size)) == blocks), None)


def _repeats(size: str) -> list[int]:
    """The blocks of each stage; the Lites scale neither the first stage nor the last."""
    scaled = [ceil(SIZES[size][0] * repeats) for repeats in REPEATS]
    return [1, *scaled[1:-1], 1] if size.startswith('lite') else scaled
