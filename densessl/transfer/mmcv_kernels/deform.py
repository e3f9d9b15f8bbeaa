"""Deformable convolution.

input (B, C, H, W), weight (O, C/group, kh, kw), output (B, O, h, w); with G = deformable_group,
offset (B, 2·G·kh·kw, h, w) holds y, x for every kernel cell and mask (B, G·kh·kw, h, w) its weight.
mmcv's ``columns``, ``ones`` and ``im2col_step`` only shape its use of memory and are not used.

Two things torchvision does otherwise are done here as in mmcv:

* A sample one whole cell or more outside the image gives its offset no gradient. torchvision gives
  one on exactly -1, the first padded row and column of a layer whose offsets start at zero.
* Modulated, offset and mask may be larger than the output, as DyHead's are, which it computes on
  the finer level: mmcv reads the values of an image one after the other, in the output's shape, and
  leaves out those at the end, whose gradient is zero.
"""
from __future__ import annotations

import torch
from torch import Tensor

from densessl.transfer.mmcv_kernels import full_precision


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor,
                        columns: Tensor, ones: Tensor, **geometry: int) -> None:
    """Deformable convolution (arXiv 1703.06211) into ``output``."""
    operands = _unmodulated(input, weight, offset)
    output.copy_(torch.ops.torchvision.deform_conv2d(*operands, *_geometry_v1(**geometry), False))


def deform_conv_backward_input(input: Tensor, offset: Tensor, gradOutput: Tensor,
                               gradInput: Tensor, gradOffset: Tensor, weight: Tensor,
                               columns: Tensor, **geometry: int) -> None:
    """Write the gradients of the input and the offset."""
    grads = _backward(gradOutput, _unmodulated(input, weight, offset), _geometry_v1(**geometry))
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])


def deform_conv_backward_parameters(input: Tensor, offset: Tensor, gradOutput: Tensor,
                                    gradWeight: Tensor, columns: Tensor, ones: Tensor,
                                    scale: float, **geometry: int) -> None:
    """Add ``scale`` times the gradient of the weight to ``gradWeight``."""
    weight = torch.zeros_like(gradWeight)  # not passed, and its gradient does not depend on it
    grads = _backward(gradOutput, _unmodulated(input, weight, offset), _geometry_v1(**geometry))
    gradWeight.add_(grads[1], alpha=scale)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
                                  offset: Tensor, mask: Tensor, output: Tensor, columns: Tensor,
                                  *, with_bias: bool, **geometry: int) -> None:
    """Modulated deformable convolution (arXiv 1811.11168) into ``output``; bias (O,)."""
    offset, mask = _read(offset, mask, output, **geometry)
    operands = _modulated(input, weight, offset, mask, bias, with_bias)
    output.copy_(torch.ops.torchvision.deform_conv2d(*operands, *_geometry_v2(**geometry), True))


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
                                   offset: Tensor, mask: Tensor, columns: Tensor,
                                   grad_input: Tensor, grad_weight: Tensor, grad_bias: Tensor,
                                   grad_offset: Tensor, grad_mask: Tensor, grad_output: Tensor,
                                   *, with_bias: bool, **geometry: int) -> None:
    """Write the gradients of all operands, of the bias only if there is one."""
    offset, mask = _read(offset, mask, grad_output, **geometry)
    operands = _modulated(input, weight, offset, mask, bias, with_bias)
    grads = _backward(grad_output, operands, _geometry_v2(**geometry), modulated=True)
    grad_input.copy_(grads[0])
    grad_weight.copy_(grads[1])
    _write(grad_offset, grads[2])
    _write(grad_mask, grads[3])
    if with_bias:
        grad_bias.copy_(grads[4])


def _backward(grad: Tensor, operands: list[Tensor], geometry: tuple[int, ...],
              modulated: bool = False) -> tuple[Tensor, ...]:
    """Gradients of the operands: input, weight, offset, mask and bias."""
    grad = grad.to(operands[0].dtype)
    grads = torch.ops.torchvision._deform_conv2d_backward(grad, *operands, *geometry, modulated)
    outside = _outside(*operands[:3], geometry)
    return *grads[:2], grads[2].masked_fill(outside, 0), *grads[3:]


def _outside(input: Tensor, weight: Tensor, offset: Tensor, geometry: tuple[int, ...]) -> Tensor:
    """Which offsets, (B, 2·G·kh·kw, h, w) as they are, lead a whole cell out of the image."""
    (height, width), kernel, size = input.shape[2:], weight.shape[2:], offset.shape[2:]
    starts = [dilation * torch.arange(cells, device=offset.device)[:, None]
              + stride * torch.arange(places, device=offset.device) - padding
              for stride, padding, dilation, cells, places in zip(
                  geometry[:2], geometry[2:4], geometry[4:6], kernel, size, strict=True)]
    offsets = offset.unflatten(1, (geometry[-1], *kernel, 2))   # (B, G, kh, kw, y x, h, w)
    y = starts[0][:, None, :, None] + offsets[:, :, :, :, 0]
    x = starts[1][:, None, :] + offsets[:, :, :, :, 1]
    outside = (y <= -1) | (y >= height) | (x <= -1) | (x >= width)
    return outside.unsqueeze(4).expand_as(offsets).reshape(offset.shape)


def _read(offset: Tensor, mask: Tensor, output: Tensor, *, kernel_h: int, kernel_w: int,
          deformable_group: int, **rest: int) -> tuple[Tensor, Tensor]:
    """What mmcv reads of offset and mask: as many values of each image as ``output`` needs."""
    cells, size = deformable_group * kernel_h * kernel_w, output.shape[2:]
    read = []
    for name, tensor, channels in (('offset', offset, 2 * cells), ('mask', mask, cells)):
        values, needed = tensor.flatten(1), channels * size.numel()
        if values.shape[1] < needed:
            raise ValueError(
                f'{name} {tuple(tensor.shape)} of a modulated deformable convolution is too small: '
                f'its output of {size[0]}×{size[1]} needs {channels} values a cell')
        read.append(values[:, :needed].reshape(-1, channels, *size))
    return read[0], read[1]


def _write(target: Tensor, grad: Tensor) -> None:
    """The reverse of :func:`_read` for a gradient: zero where nothing was read."""
    values = target.new_zeros(target.shape).flatten(1)
    values[:, :grad.shape[1:].numel()] = grad.flatten(1)
    target.copy_(values.view(target.shape))


def _unmodulated(input: Tensor, weight: Tensor, offset: Tensor) -> list[Tensor]:
    """The operands in torchvision's order, with the mask that it ignores and no bias."""
    return _modulated(input, weight, offset, input.new_zeros(len(input), 1), weight, False)


def _modulated(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor,
               with_bias: bool) -> list[Tensor]:
    """The operands in torchvision's order, which has a bias in any case."""
    bias = bias if with_bias else weight.new_zeros(len(weight))
    return full_precision(input, weight, offset, mask, bias)


def _geometry_v1(*, kW: int, kH: int, dW: int, dH: int, padW: int, padH: int, dilationW: int,
                 dilationH: int, group: int, deformable_group: int,
                 im2col_step: int) -> tuple[int, ...]:
    return dH, dW, padH, padW, dilationH, dilationW, group, deformable_group


def _geometry_v2(*, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, pad_h: int,
                 pad_w: int, dilation_h: int, dilation_w: int, group: int,
                 deformable_group: int) -> tuple[int, ...]:
    return stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
