"""The losses on a GPU: values and gradients of the CPU, and float32 within autocast."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densessl_plugins.byol import cosine_regression
from densessl_plugins.detcon import detcon_nce
from densessl_plugins.moco import info_nce
from densessl_plugins.simclr import nt_xent

pytestmark = pytest.mark.gpu
VALUE, GRADIENT = 1e-5, 1e-4        # relative


def regions(*, local_negatives):
    ids = torch.randint(0, 5, (2, 24, 8), generator=torch.Generator().manual_seed(1))
    return lambda p1, p2, z1, z2: detcon_nce(p1, p2, z1, z2, *ids.to(p1.device),
                                             local_negatives=local_negatives)


def queued(query, key):
    queue = F.normalize(torch.randn(512, 32, generator=torch.Generator().manual_seed(2)), dim=1)
    return info_nce(query, key, queue.to(query.device), 0.2)


LOSSES = {  # name: function, shapes of its operands
    'detcon': (regions(local_negatives=True), [(24, 8, 32)] * 4),
    'detcon, no local negatives': (regions(local_negatives=False), [(24, 8, 32)] * 4),
    'moco': (queued, [(48, 32)] * 2),
    'simclr': (lambda z1, z2: nt_xent(z1, z2, 0.1), [(48, 32)] * 2),
    'byol': (cosine_regression, [(48, 32)] * 2)}


def operands(shapes, device, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g).to(device, dtype).requires_grad_() for shape in shapes]


def apart(one, other):
    return float((one.cpu() - other.cpu()).norm() / other.cpu().norm())


@pytest.mark.parametrize('name', LOSSES)
def test_values_and_gradients_are_those_of_the_cpu(name, device):
    loss, shapes = LOSSES[name]
    host, there = operands(shapes, 'cpu'), operands(shapes, device)
    expected, got = loss(*host), loss(*there)
    assert got.device.type == device
    assert abs(got.item() - expected.item()) <= VALUE * abs(expected.item())
    gradients = [torch.autograd.grad(value, leaves, allow_unused=True) for value, leaves in
                 ((expected, host), (got, there))]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        assert one is None or apart(other, one) <= GRADIENT


@pytest.mark.parametrize('name', LOSSES)
def test_autocast_does_not_reach_the_losses(name, device):
    loss, shapes = LOSSES[name]
    rounded = operands(shapes, device, torch.bfloat16)
    with torch.autocast(device, torch.bfloat16):
        got = loss(*rounded)
    assert got.dtype == torch.float32
    expected = loss(*(one.detach().float() for one in rounded))
    assert abs(got.item() - expected.item()) <= VALUE * abs(expected.item())
