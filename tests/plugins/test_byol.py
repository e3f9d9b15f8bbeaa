"""BYOL's regression against a loop and an independent form; its two networks."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densessl.errors import UsageError
from densessl_plugins.byol import cosine_regression
from densessl_plugins.byol.byol import BYOL


def loop(p, z):
    """Eq. 2: the squared distance of the normalized vectors."""
    return sum(((a / a.norm() - b / b.norm()) ** 2).sum() for a, b in zip(p, z, strict=True)
               ) / len(p)


def independent(p, z):
    return F.mse_loss(F.normalize(p), F.normalize(z), reduction='sum') / len(p)


@pytest.mark.parametrize('reference', [loop, independent])
def test_equals_the_paper(reference):
    torch.manual_seed(0)
    p, z = (torch.randn(5, 7, requires_grad=True) for _ in range(2))
    value, expected = cosine_regression(p, z), reference(p, z)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, p), torch.autograd.grad(expected, p))


def test_ends_of_its_range():
    x = torch.randn(3, 4)
    assert cosine_regression(x, 2 * x).item() == pytest.approx(0, abs=1e-6)
    assert cosine_regression(x, -x).item() == pytest.approx(4)


def build(**kwargs):
    method = BYOL(backbone=dict(type='torchvision.resnet18'), projection=(16, 8), **kwargs)
    method.init_weights()
    return method


def test_target_starts_fresh_as_released_or_as_a_copy():
    fresh, copy = build(), build(target_init='copy')
    assert not torch.equal(fresh.target_backbone.conv1.weight, fresh.backbone.conv1.weight)
    assert torch.equal(copy.target_backbone.conv1.weight, copy.backbone.conv1.weight)
    assert torch.equal(copy.target_projector[0].weight, copy.projector[0].weight)
    with pytest.raises(UsageError, match="'fresh' or 'copy'"):
        build(target_init='zeros')


def test_heads_as_released():
    method = build()
    for head in (method.projector, method.predictor):
        assert [type(m).__name__ for m in head] == ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
        assert head[0].bias is not None and head[3].bias is None
