"""ResNets of 2× and 4× width, as SimCLR and BYOL train them: every layer, the stem too, has
``width`` times the channels (torchvision's own ``wide_resnet`` widens bottlenecks alone)."""
from __future__ import annotations

from torch import nn
from torchvision.models import ResNet

from densessl.errors import UsageError


def widen(model: nn.Module, width: int, *, zero_init_residual: bool = False) -> None:
    """Multiply all channels of a ResNet but the image's by ``width``, with fresh weights.

    Args:
        model: changed in place; its classifier is not touched.
        width: integer factor, at least 1.
        zero_init_residual: start the last γ of each residual block at 0.
    """
    if not isinstance(model, ResNet) or not isinstance(width, int) or width < 1:
        raise UsageError(f'width {width!r} of {type(model).__name__}: a whole number, of ResNets')
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                setattr(module, name, _wider_convolution(child, width))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(child.num_features * width))
    if zero_init_residual:
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            for block in layer:
                nn.init.zeros_(getattr(block, 'bn3', block.bn2).weight)


def _wider_convolution(conv: nn.Conv2d, width: int) -> nn.Conv2d:
    channels = conv.in_channels if conv.in_channels == 3 else conv.in_channels * width
    new = nn.Conv2d(channels, conv.out_channels * width, conv.kernel_size, conv.stride,
                    conv.padding, conv.dilation, conv.groups, bias=conv.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode='fan_out', nonlinearity='relu')   # torchvision's
    return new
