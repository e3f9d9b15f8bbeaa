"""ResNets of a finer output stride, as MMDetection and MMSegmentation build them.

torchvision's own ``replace_stride_with_dilation`` refuses basic blocks. In bottlenecks it leaves
the first block of a stage with the dilation of the stage before, where those libraries' configs
(``strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)``) dilate every block. The weights are alike and
the features are not, so that a network for them is built as they build it.
"""
from __future__ import annotations

from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from densessl.errors import UsageError, shown

OUTPUT_STRIDES = (8, 16, 32)


def set_output_stride(model: nn.Module, name: str, output_stride: int) -> None:
    """Give a ResNet's last stages stride 1 and dilated convolutions in place of their stride.

    In a dilated stage every block dilates its first 3×3 convolution: a bottleneck has no other,
    a basic block's second stays as it was.

    Args:
        model: changed in place; its weights stay as they are.
        name: torchvision's, for messages.
        output_stride: how many input pixels a cell of the last map spans.

    Raises:
        UsageError: no ResNet, or another stride than 8, 16 and 32.
    """
    if type(output_stride) is not int or output_stride not in OUTPUT_STRIDES:
        raise UsageError(f'torchvision.{name}: output_stride {shown(output_stride)}; choices: '
                         f'{", ".join(map(str, OUTPUT_STRIDES))}')
    if not isinstance(model, ResNet):
        raise UsageError(f'torchvision.{name} takes no output_stride: it is for ResNets')
    stride, dilation = 4, 1                      # of layer1
    for layer in (model.layer2, model.layer3, model.layer4):
        if stride < output_stride:
            stride *= 2
            continue
        dilation *= 2
        for block in layer:
            first = block.conv1 if isinstance(block, BasicBlock) else block.conv2
            first.stride, first.dilation, first.padding = (1, 1), (dilation,) * 2, (dilation,) * 2
            block.stride = 1
            if block.downsample is not None:
                block.downsample[0].stride = (1, 1)
