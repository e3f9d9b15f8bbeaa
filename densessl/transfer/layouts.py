"""Key layouts that several libraries share, so that weights pass between them by name alone."""
from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from densessl.transfer.group_norm import has_group_norm

_BN = r'\.(weight|bias|running_mean|running_var|num_batches_tracked)'
_RESNET_KEY = re.compile(
    r'conv1\.weight|[bg]n1' + _BN
    + r'|layer[1-4]\.\d+\.((conv[123]|downsample\.0)\.weight|([bg]n[123]|downsample\.1)' + _BN
    + ')')
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
    """What distinguishes the published members of the plain ResNet family."""

    depth: int
    groups: int = 1
    width_per_group: int = 64   # channels of a group's 3×3 convolution in layer1
    group_norm: bool = False    # in the place of batch norm

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
    if not is_plain_resnet(state) or state['conv1.weight'].shape[0] != 64:
        return None
    blocks = tuple(len({key.split('.')[1] for key in state if key.startswith(f'layer{stage}.')})
                   for stage in (1, 2, 3, 4))
    bottleneck, group_norm = 'layer1.0.conv3.weight' in state, has_group_norm(state)
    depth = _DEPTHS.get((blocks, bottleneck))
    if depth is None:
        return None
    if not bottleneck:
        return ResNetShape(depth, group_norm=group_norm)
    width, per_group = state['layer1.0.conv2.weight'].shape[:2]
    return ResNetShape(depth, width // per_group, per_group, group_norm)
