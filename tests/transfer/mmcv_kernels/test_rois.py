import math

import pytest
import torch
from mmcv.ops import DeformRoIPoolPack, RoIAlign, deform_roi_pool, roi_align, roi_pool
from torch.autograd import gradcheck

ROIS = torch.tensor([  # on features of 6 × 7 cells, in pixels at a scale of 1/2
    [0, 1.3, 2.1, 6.7, 10.2],       # 3 rows and 1 column of samples in a bin
    [1, -4.0, -3.0, 6.5, 5.0],      # begins outside
    [1, 5.2, 4.4, 30.0, 21.0],      # ends outside
    [0, 3.1, 3.3, 3.6, 3.5],        # smaller than a cell
    [0, 40.0, 40.0, 44.0, 44.0],    # all outside
], dtype=torch.float64)
SCALE, BINS = 0.5, (2, 3)


def features(channels=2, **kwargs):
    return torch.randn(2, channels, 6, 7, dtype=torch.float64, **kwargs)


def bilinear(image, y, x):
    """image (C, H, W) at y, x as RoIAlign does: clamped to the image, 0 from one cell outside."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(len(image))
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    return ((1 - fy) * ((1 - fx) * image[:, top, left] + fx * image[:, top, right])
            + fy * ((1 - fx) * image[:, bottom, left] + fx * image[:, bottom, right]))


def roi_align_by_hand(input, rois, ratio, mode, aligned):
    pooled = []
    for batch, *box in rois.tolist():
        x1, y1, x2, y2 = (value * SCALE - 0.5 * aligned for value in box)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        rows = ratio or math.ceil(height / BINS[0])
        columns = ratio or math.ceil(width / BINS[1])
        for i in range(BINS[0]):
            for j in range(BINS[1]):
                samples = torch.stack([
                    bilinear(input[int(batch)], y1 + (i + (r + 0.5) / rows) * height / BINS[0],
                             x1 + (j + (c + 0.5) / columns) * width / BINS[1])
                    for r in range(rows) for c in range(columns)])
                pooled.append(samples.amax(0) if mode == 'max' else samples.mean(0))
    return torch.stack(pooled).unflatten(0, (len(rois), *BINS)).permute(0, 3, 1, 2)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_and_its_gradient_match_sampling_by_hand(mode, ratio, aligned):
    input = features(requires_grad=True)
    expected = roi_align_by_hand(input, ROIS, ratio, mode, aligned)
    output = roi_align(input, ROIS, BINS, SCALE, ratio, mode, aligned)
    torch.testing.assert_close(output, expected)
    weights = torch.randn_like(output)
    weights[4] = 0  # all samples are 0 there: the maximum has no single gradient
    grads = [torch.autograd.grad((out * weights).sum(), input)[0] for out in (output, expected)]
    torch.testing.assert_close(*grads)
    assert grads[0].abs().sum() > 0


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_passes_gradcheck(mode, ratio):
    input = features(channels=1, requires_grad=True)
    assert gradcheck(lambda x: roi_align(x, ROIS[:3], BINS, SCALE, ratio, mode, True), input)


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_takes_strided_tensors(mode):
    input = features(3).contiguous(memory_format=torch.channels_last).requires_grad_()
    rois = ROIS.t().contiguous().t()
    output = roi_align(input, rois, BINS, SCALE, 0, mode)
    torch.testing.assert_close(output, roi_align_by_hand(input, ROIS, 0, mode, True))
    output.permute(0, 2, 3, 1).sum().backward()  # expanded, permuted gradient
    assert input.grad.abs().sum() > 0


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_rounds_half_precision_once(mode, dtype):
    input = features().to(dtype).requires_grad_()
    rois = ROIS.to(dtype)
    output = roi_align(input, rois, BINS, SCALE, 0, mode)
    exact = roi_align(input.detach().float(), rois.float(), BINS, SCALE, 0, mode)
    assert torch.equal(output, exact.to(dtype))
    output.sum().backward()
    assert input.grad.dtype == dtype and input.grad.isfinite().all()


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_takes_mixed_precision_under_autocast(mode):
    layer = RoIAlign(BINS, SCALE, 0, pool_mode=mode)
    input = features().bfloat16().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = layer(input, ROIS.float())
    expected = roi_align(input.detach().float(), ROIS.float(), BINS, SCALE, 0, mode)
    assert torch.equal(output, expected.bfloat16())


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('rois', [torch.zeros(0, 5), torch.tensor([[0, 3.0, 3.0, 3.0, 3.0]])])
def test_roi_align_of_no_region_or_no_area_is_zero(rois, mode):
    input = features().float().requires_grad_()
    output = roi_align(input, rois, BINS, SCALE, 0, mode, True)
    assert output.shape == (len(rois), 2, *BINS) and not output.any()
    output.sum().backward()
    assert not input.grad.any()


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_that_is_not_aligned_takes_a_region_for_a_cell_at_least(mode):
    input, point = features(), torch.tensor([[0, 3.0, 3.0, 3.0, 3.0]], dtype=torch.float64)
    output = roi_align(input, point, BINS, SCALE, 0, mode, False)
    torch.testing.assert_close(output, roi_align_by_hand(input, point, 0, mode, False))


def roi_pool_by_hand(input, rois):
    height, width = input.shape[2:]
    pooled = []
    for batch, x1, y1, x2, y2 in rois.tolist():
        x1, y1, x2, y2 = x1 * SCALE, y1 * SCALE, (x2 + 1) * SCALE, (y2 + 1) * SCALE
        high, wide = (y2 - y1) / BINS[0], (x2 - x1) / BINS[1]
        for i in range(BINS[0]):
            for j in range(BINS[1]):
                cells = [input[int(batch), :, y, x]
                         for y in range(math.floor(y1 + i * high), math.ceil(y1 + (i + 1) * high))
                         for x in range(math.floor(x1 + j * wide), math.ceil(x1 + (j + 1) * wide))
                         if 0 <= y < height and 0 <= x < width]
                zero = input.new_zeros(input.shape[1])
                pooled.append(torch.stack(cells).amax(0) if cells else zero)
    return torch.stack(pooled).unflatten(0, (len(rois), *BINS)).permute(0, 3, 1, 2)


def test_roi_pool_and_its_gradient_match_a_loop():
    input = features(3).contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = roi_pool_by_hand(input, ROIS)
    output = roi_pool(input, ROIS, BINS, SCALE)
    torch.testing.assert_close(output, expected)
    assert not output[4].any()  # outside, every bin is empty
    weights = torch.randn_like(output)
    grads = [torch.autograd.grad((out * weights).sum(), input)[0] for out in (output, expected)]
    torch.testing.assert_close(*grads)


def test_roi_pool_of_no_region_an_inverted_one_and_half_precision():
    input = features().half().requires_grad_()
    assert roi_pool(input, ROIS[:0].half(), BINS, SCALE).shape == (0, 2, *BINS)
    inverted = torch.tensor([[0, 5.0, 5.0, 3.0, 3.0]]).half()
    output = roi_pool(input, inverted, BINS, SCALE)
    assert output.dtype == torch.float16 and not output.any()
    output.sum().backward()
    assert not input.grad.any()


def deform_roi_pool_by_hand(input, rois, offset, ratio, gamma):
    """The pooled bins, and each sample's (roi, row, column, y, x, share, x extent, y extent)."""
    pooled, samples = [], []
    for number, (batch, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * SCALE - 0.5 for value in box)
        height, width = y2 - y1, x2 - x1
        rows, columns = ratio or math.ceil(height / BINS[0]), ratio or math.ceil(width / BINS[1])
        for i in range(BINS[0]):
            for j in range(BINS[1]):
                dx, dy = offset[number, :, i, j].tolist()
                values = []
                for r in range(rows):
                    for c in range(columns):
                        y = y1 + gamma * height * dy + (i + (r + 0.5) / rows) * height / BINS[0]
                        x = x1 + gamma * width * dx + (j + (c + 0.5) / columns) * width / BINS[1]
                        values.append(bilinear(input[int(batch)], y, x))
                        samples.append((number, i, j, y, x, 1 / (rows * columns),
                                        gamma * width, gamma * height))
                pooled.append(torch.stack(values).mean(0))
    return torch.stack(pooled).unflatten(0, (len(rois), *BINS)).permute(0, 3, 1, 2), samples


def offset_gradient_by_hand(input, rois, offset, samples, grad):
    """The slopes of the four cells at every sample, in coordinates not clamped to the image."""
    total, (height, width) = torch.zeros_like(offset), input.shape[2:]
    for number, i, j, y, x, share, across, down in samples:
        if not (-1 <= y <= height and -1 <= x <= width):
            continue
        top, left = (int(min(max(value, 0), length - 1))
                     for value, length in ((y, height), (x, width)))
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        image, weight = input[int(rois[number, 0])], share * grad[number, :, i, j]
        for row, column, along_x, along_y in (
                (top, left, y - bottom, x - right), (top, right, bottom - y, left - x),
                (bottom, left, top - y, right - x), (bottom, right, y - top, x - left)):
            value = (weight * image[:, row, column]).sum()
            total[number, 0, i, j] += across * along_x * value
            total[number, 1, i, j] += down * along_y * value
    return total


@pytest.mark.parametrize('ratio', [0, 2])
def test_deformable_roi_pooling_and_its_gradients_match_sampling_by_hand(ratio):
    input, gamma = features(requires_grad=True), 0.3
    offset = torch.randn(len(ROIS), 2, *BINS, dtype=torch.float64, requires_grad=True)
    expected, samples = deform_roi_pool_by_hand(input, ROIS, offset, ratio, gamma)
    output = deform_roi_pool(input, ROIS, offset, BINS, SCALE, ratio, gamma)
    torch.testing.assert_close(output, expected)
    grad = torch.randn_like(expected)
    of_input, of_offset = torch.autograd.grad(output, (input, offset), grad)
    torch.testing.assert_close(of_input, torch.autograd.grad(expected, input, grad)[0])
    with torch.no_grad():
        by_hand = offset_gradient_by_hand(input, ROIS, offset, samples, grad)
    torch.testing.assert_close(of_offset, by_hand)


def test_deformable_roi_pooling_starts_as_roi_align_and_trains():
    input = features(channels=4, requires_grad=True)
    torch.testing.assert_close(deform_roi_pool(input, ROIS, None, BINS, SCALE),
                               roi_align(input, ROIS, BINS, SCALE, 0, 'avg', True))
    layer = DeformRoIPoolPack(BINS, 4, 8, SCALE).double()
    output = layer(input, ROIS)
    output.square().sum().backward()
    assert input.grad.any() and layer.offset_fc[-1].weight.grad.any()
    assert deform_roi_pool(input, ROIS[:0], None, BINS, SCALE).shape == (0, 4, *BINS)
