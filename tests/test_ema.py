"""The target update against the paper's formula."""
from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from densessl.ema import copy_weights, cosine_tau, ema_update, target_of


def test_update_moves_parameters_and_leaves_buffers():
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = target_of(online)
    assert not any(p.requires_grad for p in target.parameters())
    before = [p.clone() for p in target.parameters()]
    with torch.no_grad():
        for p in online.parameters():
            p.add_(torch.randn_like(p))
        online[1].running_mean.add_(1)
    ema_update(target, online, 0.9)
    for was, now, theta in zip(before, target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * theta)
    assert torch.equal(target[1].running_mean, torch.zeros(4))
    copy_weights(target, online)
    assert torch.equal(target[1].running_mean, torch.ones(4))


@pytest.mark.parametrize('step', [0, 1, 50, 99])
def test_cosine_tau(step):
    expected = 1 - 0.004 * (math.cos(math.pi * step / 100) + 1) / 2
    assert cosine_tau(step, 100, 0.996) == pytest.approx(expected, abs=1e-15)


def test_cosine_tau_runs_from_base_to_one():
    assert cosine_tau(0, 100, 0.99) == pytest.approx(0.99)
    assert cosine_tau(100, 100, 0.99) == 1
