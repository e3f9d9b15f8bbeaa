"""Heads, pooling over regions, the target update and LARS on a GPU, beside the CPU."""
from __future__ import annotations

import pytest
import torch
from batches import batch
from torch import nn

from densessl.ema import ema_update
from densessl.heads import cell_counts, mlp, pool_regions, region_weights, sample_regions
from densessl.planning.optimizers import LARS

pytestmark = pytest.mark.gpu
CLOSE = 1e-5    # relative


def apart(one, other):
    one, other = one.detach().cpu(), other.detach().cpu()
    return float((one - other).norm() / other.norm())


@pytest.fixture
def view():
    return batch(1, size=56)[0]


def weighed(view, where, *, hard):
    """Counts, ids and weights of a view's regions on a device."""
    counts = cell_counts(view.mask.to(where), (7, 7), view.regions)
    ids = sample_regions(counts.amax(1) > 0, view.uniforms[:, :16].to(where))
    return counts, ids, region_weights(counts, ids, hard=hard)


@pytest.mark.parametrize('hard', [True, False])
def test_the_same_cells_and_regions(view, hard, device):
    for one, other in zip(weighed(view, 'cpu', hard=hard), weighed(view, device, hard=hard),
                          strict=True):
        assert torch.equal(one, other.cpu())     # whole numbers, and shares that are rounded once


@pytest.mark.parametrize('hard', [True, False])
def test_pooling_and_its_gradient(view, hard, device):
    features = torch.randn(len(view.mask), 64, 7, 7, generator=torch.Generator().manual_seed(0))
    found = []
    for where in ('cpu', device):
        leaf = features.to(where, memory_format=torch.channels_last, copy=True).requires_grad_()
        pooled = pool_regions(leaf, weighed(view, where, hard=hard)[2])
        pooled.square().sum().backward()
        found.append((pooled, leaf.grad))
    assert apart(found[1][0], found[0][0]) <= CLOSE
    assert apart(found[1][1], found[0][1]) <= CLOSE


def copied(head, device):
    """The same head on the device."""
    other = mlp(48, 64, 32)
    other.load_state_dict(head.state_dict())
    return other.to(device)


def test_a_head_and_its_statistics(device):
    torch.manual_seed(0)
    here = mlp(48, 64, 32)
    there = copied(here, device)
    inputs = torch.randn(96, 48)
    for head, where in ((here, 'cpu'), (there, device)):
        head(inputs.to(where)).square().mean().backward()
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        # before a batch norm a bias has no gradient but rounding
        assert one.grad.norm() < 1e-6 or apart(other.grad, one.grad) <= 10 * CLOSE
    torch.testing.assert_close(there[1].running_mean.cpu(), here[1].running_mean)
    torch.testing.assert_close(there[1].running_var.cpu(), here[1].running_var)


def test_the_target_update(device):
    torch.manual_seed(0)
    online, target = mlp(48, 64, 32), mlp(48, 64, 32)
    there = copied(target, device)
    ema_update(there, copied(online, device), 0.97)
    ema_update(target, online, 0.97)
    for one, other in zip(target.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('lr_in_momentum', [True, False])
def test_lars(lr_in_momentum, device):
    g = torch.Generator().manual_seed(0)
    shapes = [(64, 32, 3, 3), (64,), (10, 64), (5, 5)]
    start = [torch.randn(shape, generator=g) for shape in shapes]
    start[3].zero_()        # a norm of 0 is not adapted
    gradients = [[torch.randn(shape, generator=g) for shape in shapes] for _ in range(4)]
    found = []
    for where in ('cpu', device):
        weights = [nn.Parameter(one.to(where, copy=True)) for one in start]
        optimizer = LARS([dict(params=[weights[0], weights[2], weights[3]]),
                          dict(params=[weights[1]], adapt=False, weight_decay=0.0)], lr=0.5,
                         weight_decay=1e-2, lr_in_momentum=lr_in_momentum)
        for step, row in enumerate(gradients):
            for group in optimizer.param_groups:
                group['lr'] = 0.5 * (step + 1) / 4
            for weight, gradient in zip(weights, row, strict=True):
                weight.grad = gradient.to(where)
            optimizer.step()
        found.append(weights)
    for one, other, was in zip(*found, start, strict=True):
        # what is small beside the weights is rounded as they are
        close = 10 * CLOSE + 1e-7 * float(was.norm() / (one.detach() - was).norm())
        assert apart(other.detach().cpu() - was, one.detach() - was) <= close
