"""ResNets without batch norm: normalization layers that see one image at a time."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from densessl.errors import UsageError
from densessl.weights.group_norm import GROUPS


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    """What to give a ResNet as ``norm_layer``: ``'layer'`` normalizes each image over channels and
    pixels (Ba et al. 2016), ``'group'`` over groups of channels and pixels (Wu & He 2018: 32).

    Raises:
        UsageError: another name.
    """
    if norm not in GROUPS:
        raise UsageError(f'norm {norm!r} of torchvision ResNets: {" or ".join(GROUPS)}; leave it '
                         f'out for batch norm')
    return partial(nn.GroupNorm, GROUPS[norm])
