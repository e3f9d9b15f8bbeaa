"""LARS step by step against both released formulas, and the parameter groups."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from densessl.planning.optimizers import LARS, ExcludeBiasAndNorm


def simclr(w, g, v, lr, momentum, decay, trust, adapt):
    """google-research/simclr lars_optimizer.py, classic_momentum=True."""
    g = g + decay * w
    ratio = 1.0
    if adapt and w.norm() > 0 and g.norm() > 0:
        ratio = trust * w.norm() / g.norm()
    v = momentum * v + lr * ratio * g
    return w - v, v


def byol(w, g, v, lr, momentum, decay, trust, adapt):
    """deepmind-research/byol optimizers.py: weight decay, trust ratio, trace, −lr."""
    g = g + decay * w
    if adapt and w.norm() > 0 and g.norm() > 0:
        g = g * trust * w.norm() / g.norm()
    v = momentum * v + g
    return w - lr * v, v


@pytest.mark.parametrize('formula, lr_in_momentum', [(simclr, True), (byol, False)])
def test_equals_the_released_formula(formula, lr_in_momentum):
    torch.manual_seed(0)
    shapes = [(4, 3), (3,), (2, 3, 3, 3), (5, 5)]
    params = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    with torch.no_grad():
        params[3].zero_()   # a norm of 0 is not adapted
    groups = [dict(params=[p for p in params if p.ndim > 1]),
              dict(params=[p for p in params if p.ndim == 1], adapt=False, weight_decay=0.0)]
    optimizer = LARS(groups, lr=0.5, momentum=0.9, weight_decay=1e-2, trust=1e-3,
                     lr_in_momentum=lr_in_momentum)
    expected = [(p.detach().clone(), torch.zeros_like(p)) for p in params]
    for step in range(6):
        rate = 0.5 * (step + 1) / 6   # the two forms differ only while the rate changes
        for group in optimizer.param_groups:
            group['lr'] = rate
        for i, p in enumerate(params):
            p.grad = torch.zeros_like(p) if (step, i) == (0, 3) else torch.randn_like(p)
            weight = p.ndim > 1
            expected[i] = formula(*[expected[i][0], p.grad, expected[i][1]], rate, 0.9,
                                  1e-2 if weight else 0.0, 1e-3, weight)
        optimizer.step()
        for p, (w, _) in zip(params, expected, strict=True):
            torch.testing.assert_close(p.detach(), w, atol=1e-12, rtol=1e-12)


def test_parameters_without_gradient_stay():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.ones(2, 2)
    LARS([used, unused], lr=1.0, weight_decay=0.1).step()
    assert torch.equal(unused.detach(), torch.ones(2, 2)) and not torch.equal(used, unused)


def test_state_round_trips():
    def run(optimizer, p, steps):
        for _ in range(steps):
            p.grad = p.detach() * 0.3 + 1
            optimizer.step()
    whole = nn.Parameter(torch.ones(3, 3))
    run(LARS([whole], lr=0.1), whole, 6)
    half = nn.Parameter(torch.ones(3, 3))
    first = LARS([half], lr=0.1)
    run(first, half, 3)
    second = LARS([half], lr=0.1)
    second.load_state_dict(first.state_dict())
    run(second, half, 3)
    assert torch.equal(whole, half)


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match='lr -1'):
        LARS([nn.Parameter(torch.ones(1))], lr=-1)


def test_bias_and_norm_are_excluded():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[3].weight.requires_grad_(False)
    constructor = ExcludeBiasAndNorm(dict(type='OptimWrapper', optimizer=dict(
        type='LARS', lr=1.0, weight_decay=0.1)))
    adapted, excluded = constructor(model).optimizer.param_groups
    assert [p.shape for p in adapted['params']] == [model[0].weight.shape]
    assert adapted['adapt'] and adapted['weight_decay'] == 0.1
    names = {id(p): name for name, p in model.named_parameters()}
    assert [names[id(p)] for p in excluded['params']] == ['0.bias', '1.weight', '1.bias', '3.bias']
    assert not excluded['adapt'] and excluded['weight_decay'] == 0
