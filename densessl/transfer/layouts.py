"""Key layouts that several libraries share, so that weights pass between them by name alone."""
from __future__ import annotations

import re

from torch import Tensor

_RESNET_KEY = re.compile(
    r'(conv1\.weight'
    r'|bn1\.(weight|bias|running_mean|running_var|num_batches_tracked)'
    r'|layer[1-4]\.\d+\.(conv[123]|downsample\.0)\.weight'
    r'|layer[1-4]\.\d+\.(bn[123]|downsample\.1)'
    r'\.(weight|bias|running_mean|running_var|num_batches_tracked))')


def is_plain_resnet(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` is laid out as He et al.'s ResNet with a 7×7 stem: ``conv1``, ``bn1``,
    ``layer1.0.conv1`` … and nothing else (deep stems, attention and blur pooling add keys).

    ResNeXt and wide ResNets have the same layout. Keys do not tell in which convolution a block
    strides; the function check does (:mod:`densessl.transfer.handoff`).
    """
    stem = state.get('conv1.weight')
    return (stem is not None and tuple(stem.shape[1:]) == (3, 7, 7)
            and all(_RESNET_KEY.fullmatch(key) for key in state))
