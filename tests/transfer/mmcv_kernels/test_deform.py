import math

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import DeformConv2d, ModulatedDeformConv2dPack, deform_conv2d, modulated_deform_conv2d

# stride, padding, dilation, groups, deform_groups
GEOMETRIES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2), ((1, 2), (2, 1), 1, 2, 2)]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def operands(geometry, kernel=(3, 2), batch=2):
    """Leaves in double: input, offset, mask, weight, bias."""
    stride, padding, dilation, groups, deform_groups = geometry
    input = torch.randn(batch, 4, 5, 6, dtype=torch.float64)
    weight = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    size = F.conv2d(input, weight, None, stride, padding, dilation, groups).shape[2:]
    cells = deform_groups * math.prod(kernel)
    offset = 1.5 * torch.randn(batch, 2 * cells, *size, dtype=torch.float64)
    mask = torch.rand(batch, cells, *size, dtype=torch.float64)
    leaves = (input, offset, mask, weight, torch.randn(6, dtype=torch.float64))
    return [leaf.requires_grad_() for leaf in leaves]


def bilinear(image, y, x):
    """image (C, H, W) at the tensors y, x; a cell outside counts as 0, and a point a whole cell
    outside is nowhere: it has no value and no slope."""
    (height, width), (top, left) = image.shape[1:], (math.floor(y), math.floor(x))
    value = image.new_zeros(len(image))
    if y <= -1 or y >= height or x <= -1 or x >= width:
        return value
    for row, share in ((top, top + 1 - y), (top + 1, y - top)):
        for column, part in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < height and 0 <= column < width:
                value = value + share * part * image[:, row, column]
    return value


def deform_conv_by_hand(input, offset, mask, weight, bias, geometry):
    """The definition, Eq. 1 of arXiv 1811.11168, cell by cell."""
    groups, deform_groups = geometry[3:]
    (stride, padding, dilation), kernel = map(pair, geometry[:3]), weight.shape[2:]
    offset = offset.unflatten(1, (deform_groups, *kernel, 2))  # (B, G, kh, kw, y x, h, w)
    mask = mask.unflatten(1, (deform_groups, *kernel))
    columns = []
    for b, g, i, j in torch.cartesian_prod(*map(torch.arange, offset.shape[:4])).tolist():
        part = input[b].chunk(deform_groups)[g]
        for h in range(offset.shape[-2]):
            for w in range(offset.shape[-1]):
                dy, dx = offset[b, g, i, j, :, h, w]
                y = h * stride[0] - padding[0] + i * dilation[0] + dy
                x = w * stride[1] - padding[1] + j * dilation[1] + dx
                columns.append(mask[b, g, i, j, h, w] * bilinear(part, y, x))
    columns = torch.stack(columns).view(*offset.shape[:4], *offset.shape[-2:], -1)
    columns = columns.permute(0, 1, 6, 2, 3, 4, 5).flatten(1, 2)  # (B, C, kh, kw, h, w)
    columns = columns.unflatten(1, (groups, -1))
    weight = weight.unflatten(0, (groups, -1))
    output = torch.einsum('bgcijhw,gocij->bgohw', columns, weight).flatten(1, 2)
    return output + bias[:, None, None]


def assert_same_with_gradients(computed, expected, leaves):
    torch.testing.assert_close(computed, expected)
    weights = torch.randn_like(expected)
    grads = [torch.autograd.grad(out, leaves, weights) for out in (computed, expected)]
    for computed_grad, expected_grad in zip(*grads, strict=True):
        torch.testing.assert_close(computed_grad, expected_grad)


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_fractional_offsets_match_the_definition(geometry):
    leaves = input, offset, mask, weight, bias = operands(geometry, batch=1)
    expected = deform_conv_by_hand(*leaves, geometry)
    assert_same_with_gradients(modulated_deform_conv2d(*leaves, *geometry), expected, leaves)

    unmodulated = deform_conv_by_hand(
        input, offset, torch.ones_like(mask), weight, torch.zeros_like(bias), geometry)
    computed = deform_conv2d(input, offset, weight, *geometry)
    assert_same_with_gradients(computed, unmodulated, (input, offset, weight))


@pytest.mark.parametrize('shift', [(0, 0), (-1, 1)])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_offsets_at_the_border_have_the_gradient_of_mmcv(geometry, shift):
    leaves = input, offset, mask, weight, bias = operands(geometry, batch=1)
    with torch.no_grad():   # on whole cells, as where every layer starts
        offset[:, 0::2], offset[:, 1::2] = shift
    expected = deform_conv_by_hand(*leaves, geometry)
    assert_same_with_gradients(modulated_deform_conv2d(*leaves, *geometry), expected, leaves)

    unmodulated = deform_conv_by_hand(
        input, offset, torch.ones_like(mask), weight, torch.zeros_like(bias), geometry)
    assert_same_with_gradients(
        deform_conv2d(input, offset, weight, *geometry), unmodulated, (input, offset, weight))


def test_the_offset_gradient_of_a_padded_pixel_in_numbers():
    image, weight = torch.tensor([[[[1., 2.], [3., 4.]]]]), torch.ones(1, 1, 1, 1)
    offset = torch.zeros(1, 2, 4, 4, requires_grad=True)
    modulated_deform_conv2d(image, offset, torch.ones(1, 1, 4, 4), weight, None, 1, 1).sum(
        ).backward()
    # a step to the next cell: 3 - 1, 4 - 2, and from the last row to nothing
    assert offset.grad[0, 0].tolist() == [[0] * 4, [0, 2, 2, 0], [0, -3, -4, 0], [0] * 4]
    assert offset.grad[0, 1].tolist() == [[0] * 4, [0, 1, -2, 0], [0, 1, -4, 0], [0] * 4]


@pytest.mark.parametrize('size', [(10, 12), (9, 13)])
def test_offsets_of_a_finer_level_are_read_one_after_the_other(size):
    geometry = GEOMETRIES[3]
    input, offset, mask, weight, bias = operands(geometry, batch=2)
    cells, needed = mask.shape[1], mask[0, 0].numel()
    fine = [torch.rand(2, channels * cells, *size, dtype=torch.float64).requires_grad_()
            for channels in (2, 1)]
    read = [tensor.flatten(1)[:, :channels * cells * needed].reshape(like.shape)
            for tensor, channels, like in zip(fine, (2, 1), (offset, mask), strict=True)]
    expected = deform_conv_by_hand(input, *read, weight, bias, geometry)
    leaves = (input, *fine, weight, bias)
    computed = modulated_deform_conv2d(*leaves, *geometry)
    assert_same_with_gradients(computed, expected, leaves)
    modulated_deform_conv2d(*leaves, *geometry).sum().backward()
    assert not fine[0].grad.flatten(1)[:, 2 * cells * needed:].any()
    assert fine[0].grad.flatten(1)[:, :2 * cells * needed].any()


def test_offsets_that_are_too_small_are_refused_and_others_of_the_plain_convolution_too():
    input, offset, mask, weight, bias = operands(GEOMETRIES[0])
    with pytest.raises(ValueError, match=r'offset .* too small: its output of 5×7 needs 12'):
        modulated_deform_conv2d(input, offset[..., :-1], mask, weight, bias, 1, 1)
    with pytest.raises(ValueError, match='mask'):
        modulated_deform_conv2d(input, offset, mask[:, :-1], weight, bias, 1, 1)
    with pytest.raises(RuntimeError, match='offset'):   # as the compiled op
        deform_conv2d(input, F.pad(offset, (0, 2, 0, 2)), weight, 1, 1)


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('shift', [(0, 0), (1, -2)])
def test_whole_offsets_are_a_convolution_of_the_shifted_input(geometry, shift):
    input, offset, mask, weight, bias = operands(geometry)
    with torch.no_grad():
        offset[:, 0::2], offset[:, 1::2] = shift
    stride, padding, dilation, groups, _ = geometry
    wide = F.pad(input, (4, 4, 4, 4))  # so that the shift reaches the input behind the padding
    window = [slice(4 - pad + move, 4 + length + pad + move)
              for pad, move, length in zip(pair(padding), shift, (5, 6), strict=True)]

    def convolve(weight, bias=None):
        return F.conv2d(wide[..., window[0], window[1]], weight, bias, stride, 0, dilation, groups)

    computed = deform_conv2d(input, offset, weight, *geometry)
    assert_same_with_gradients(computed, convolve(weight), (input, weight))

    halved = modulated_deform_conv2d(
        input, offset, torch.full_like(mask, 0.5), weight, bias, *geometry)
    assert_same_with_gradients(halved, convolve(0.5 * weight, bias), (input, weight, bias))


def test_without_bias_there_is_no_gradient_of_one():
    input, offset, mask, weight, bias = operands(GEOMETRIES[0])
    expected = modulated_deform_conv2d(input, offset, mask, weight, torch.zeros_like(bias), 1, 1)
    computed = modulated_deform_conv2d(input, offset, mask, weight, None, 1, 1)
    assert_same_with_gradients(computed, expected, (input, offset, mask, weight))


def test_im2col_step_does_not_change_the_result():
    input, offset, _, weight, _ = operands(GEOMETRIES[0], batch=4)
    outputs = [deform_conv2d(input, offset, weight, 1, 1, 1, 1, 1, False, step) for step in (1, 32)]
    assert_same_with_gradients(*outputs, (input, offset, weight))


def test_strided_operands_and_gradients():
    input, offset, mask, weight, bias = operands(GEOMETRIES[0])
    strided = [leaf.detach().mT.contiguous().mT.requires_grad_()
               for leaf in (input, offset, mask, weight)]
    expected = modulated_deform_conv2d(input, offset, mask, weight, bias, 1, 1)
    computed = modulated_deform_conv2d(*strided, bias, 1, 1)
    torch.testing.assert_close(computed, expected)
    computed.transpose(1, 2).sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(strided[0].grad, input.grad)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    # As under autocast: the offsets come out of a convolution in half, the rest is single.
    input, offset, mask, weight, bias = (leaf.detach().float() for leaf in operands(GEOMETRIES[0]))
    leaves = [leaf.requires_grad_() for leaf in (input, offset.to(dtype), mask.to(dtype), weight)]
    output = modulated_deform_conv2d(*leaves, bias, 1, 1)
    rounded = [leaf.detach().to(dtype).float() for leaf in (*leaves, bias)]
    assert torch.equal(output, modulated_deform_conv2d(*rounded, 1, 1).to(dtype))
    output.float().sum().backward()
    assert [leaf.grad.dtype for leaf in leaves] == [leaf.dtype for leaf in leaves]
    assert deform_conv2d(input, offset.to(dtype), weight, 1, 1).dtype == dtype


def test_layers_train():
    input = torch.randn(2, 4, 2, 8, requires_grad=True)  # lower than the kernel: mmcv pads it
    layer = DeformConv2d(4, 6, 3, padding=1)
    output = layer(input, torch.randn(2, 18, 2, 8))
    pack = ModulatedDeformConv2dPack(6, 6, 3, padding=1)
    pack(output).square().mean().backward()
    assert output.shape == (2, 6, 2, 8)
    for tensor in (input, layer.weight, pack.weight, pack.bias, pack.conv_offset.weight):
        assert tensor.grad.isfinite().all() and tensor.grad.any()
