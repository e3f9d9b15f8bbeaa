"""NT-Xent against Algorithm 1 as a loop and against a matrix form written independently."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densessl.errors import UsageError
from densessl.method import View
from densessl_plugins.simclr import nt_xent
from densessl_plugins.simclr.simclr import SimCLR, projection_head


def algorithm_1(z1, z2, temperature):
    """Rows 2k−1 and 2k are a pair; ℓ(i, j) over all k ≠ i; mean over 2N."""
    z = torch.stack([z1, z2], 1).flatten(0, 1)
    s = lambda i, j: z[i] @ z[j] / (z[i].norm() * z[j].norm())   # noqa: E731  the paper's s_ij
    total = 0
    for i in range(len(z)):
        partner = i + 1 if i % 2 == 0 else i - 1
        denominator = sum(torch.exp(s(i, k) / temperature) for k in range(len(z)) if k != i)
        total = total - torch.log(torch.exp(s(i, partner) / temperature) / denominator)
    return total / len(z)


def matrix_form(z1, z2, temperature):
    """The 2B × 2B similarity matrix with its diagonal removed, one cross-entropy over it."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(float('-inf'))
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))


@pytest.mark.parametrize('reference', [algorithm_1, matrix_form])
@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_equals_the_paper(reference, temperature):
    torch.manual_seed(0)
    ours = [torch.randn(5, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    theirs = [z.detach().clone().requires_grad_() for z in ours]
    value, expected = nt_xent(*ours, temperature), reference(*theirs, temperature)
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    value.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-6)


def test_head_as_released():
    head = projection_head(2048, 2048, 128)
    assert [type(m).__name__ for m in head] == ['Linear', 'BatchNorm1d', 'ReLU', 'Linear',
                                                'BatchNorm1d']
    assert head[0].bias is None and head[3].bias is None
    assert head[4].weight.requires_grad and not head[4].bias.requires_grad
    assert len(projection_head(8, 8, 4, layers=3)) == 8


def test_zero_gamma_reaches_the_backbone():
    method = SimCLR(backbone=dict(type='torchvision.resnet18', zero_init_residual=True))
    method.init_weights()
    assert (method.backbone.layer1[0].bn2.weight == 0).all()
    assert (method.backbone.layer1[0].bn1.weight == 1).all()
    assert method.negatives(4096) == 8190


def method_and_views(size=32):
    torch.manual_seed(0)
    method = SimCLR(backbone=dict(type='torchvision.resnet18'), temperature=0.5).double()
    return method, [View(image=torch.randn(4, 3, s, s, dtype=torch.float64)) for s in (32, size)]


def test_the_loss_is_the_sum_of_both_orders_as_released():
    """google-research/simclr ``objective.py``: loss_a + loss_b, each the mean over B anchors, of
    features that went through the network together (``model.py`` concatenates the two views)."""
    method, (view1, view2) = method_and_views()
    loss = method.loss([view1, view2])['loss']
    z = F.normalize(method.projector(
        method.backbone(torch.cat([view1.image, view2.image]))[-1].mean((2, 3))), dim=1)
    a, b = z.chunk(2)
    eye, labels = torch.eye(4), torch.arange(4)
    released = sum(F.cross_entropy(torch.cat([x @ y.T / 0.5, x @ x.T / 0.5 - 1e9 * eye], 1), labels)
                   for x, y in ((a, b), (b, a)))
    torch.testing.assert_close(loss, released)


def test_batch_norms_see_both_views_together():
    method, views = method_and_views()
    method.loss(views)
    bn = method.backbone.bn1
    stem = method.backbone.conv1(torch.cat([view.image for view in views]))
    torch.testing.assert_close(bn.running_mean, 0.1 * stem.mean((0, 2, 3)))
    assert bn.num_batches_tracked == 1


def test_views_of_two_sizes_are_refused():
    method, views = method_and_views(size=48)
    with pytest.raises(UsageError, match='one size'):
        method.loss(views)
