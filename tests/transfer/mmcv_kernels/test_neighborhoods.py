import itertools

import pytest
import torch
from mmcv.ops import CARAFEPack, PSAMask, carafe, carafe_naive


def carafe_by_hand(features, masks, kernel, groups, scale):
    """Eq. 2 of arXiv 1905.02188, pixel by pixel."""
    (batch, channels, height, width), half = features.shape, kernel // 2
    rows = []
    for b, c, y, x in itertools.product(range(batch), range(channels), range(scale * height),
                                        range(scale * width)):
        value = features.new_zeros(())
        group = c // (channels // groups)
        for i, j in itertools.product(range(kernel), range(kernel)):
            row, column = y // scale + i - half, x // scale + j - half
            if 0 <= row < height and 0 <= column < width:
                weight = masks[b, group * kernel * kernel + i * kernel + j, y, x]
                value = value + weight * features[b, c, row, column]
        rows.append(value)
    return torch.stack(rows).view(batch, channels, scale * height, scale * width)


@pytest.mark.parametrize(('kernel', 'groups', 'scale'), [
    (3, 1, 2), (5, 2, 2), (1, 2, 3), (3, 4, 1)])
def test_carafe_matches_the_definition(kernel, groups, scale):
    features = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, groups * kernel**2, 3 * scale, 2 * scale, dtype=torch.float64,
                       requires_grad=True)
    expected = carafe_by_hand(features, masks, kernel, groups, scale)
    computed = carafe(features, masks, kernel, groups, scale)
    torch.testing.assert_close(computed, expected)
    torch.testing.assert_close(carafe_naive(features, masks, kernel, groups, scale), expected)
    weights = torch.randn_like(expected)
    for theirs, ours in zip(*(torch.autograd.grad(out, (features, masks), weights)
                              for out in (expected, computed)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_carafe_rounds_half_precision_once_and_its_layer_trains():
    features, masks = torch.randn(1, 4, 3, 3).half(), torch.rand(1, 25, 6, 6).half()
    exact = carafe(features.float(), masks.float(), 5, 1, 2)
    assert torch.equal(carafe(features, masks, 5, 1, 2), exact.half())
    layer, image = CARAFEPack(8, 2), torch.randn(2, 8, 5, 6, requires_grad=True)
    output = layer(image)
    assert output.shape == (2, 8, 10, 12)
    output.square().sum().backward()
    assert image.grad.any() and layer.content_encoder.weight.grad.any()
    # its kernels sum to one: a constant stays as it is, away from the border
    assert torch.allclose(layer(torch.ones(1, 8, 7, 7))[..., 4:-4, 4:-4], torch.ones(()), atol=1e-6)


@pytest.mark.parametrize('mask', [(3, 3), (5, 7), (7, 3), (1, 1)])
@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_psa_mask_matches_the_definition(kind, mask):
    size, half = (3, 4), ((mask[0] - 1) // 2, (mask[1] - 1) // 2)
    input = torch.randn(2, mask[0] * mask[1], *size, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(2, 12, *size, dtype=torch.float64)
    pixels = list(itertools.product(range(size[0]), range(size[1])))
    for (y, x), (i, j) in itertools.product(
            pixels, itertools.product(range(mask[0]), range(mask[1]))):
        row, column = y + i - half[0], x + j - half[1]      # what this cell of the mask lies on
        if (row, column) in pixels:
            pair = (row, column, y, x) if kind == 'collect' else (y, x, row, column)
            expected[:, pair[0] * size[1] + pair[1], pair[2], pair[3]] = input[:, i * mask[1] + j,
                                                                               y, x]
    computed = PSAMask(kind, mask)(input)
    assert torch.equal(computed, expected)
    weights = torch.randn_like(expected)
    grads = [torch.autograd.grad(out, input, weights)[0] for out in (expected, computed)]
    assert torch.equal(*grads)
