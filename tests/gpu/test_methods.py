"""One training step of each method on a GPU, beside the CPU: loss, gradients, weights, statistics.
"""
from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from batches import batch_for, total

from densessl.planning.optimizers import LARS, ExcludeBiasAndNorm
from densessl.registry import METHODS

pytestmark = pytest.mark.gpu
# Relative. In float32 rounding puts some activations on the other side of a kink: on one CPU, by
# other kernels, gradients differ by up to 8e-3. In float64 nothing but the formulas can differ.
TOLERANCES = {torch.float32: dict(loss=1e-4, gradients=3e-2, weights=5e-2, statistics=1e-3),
              torch.float64: dict(loss=1e-10, gradients=1e-7, weights=1e-7, statistics=1e-8)}


def step(method, views):
    """The loss of a step, its gradients, its change of weights, its statistics, in vectors."""
    start = {name: p.detach().clone() for name, p in method.named_parameters()}
    optimizer = LARS(ExcludeBiasAndNorm.groups(method, adapts=True), lr=0.5, weight_decay=1e-6)
    torch.manual_seed(0)        # MoCo's order of keys
    loss = total(method, views)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        method.after_step(0, 10)
    gradients = [p.grad for p in method.parameters() if p.requires_grad]
    moved = [p.detach() - start[name] for name, p in method.named_parameters()]
    statistics = [b for b in method.buffers() if b.is_floating_point()]
    return {'loss': loss.detach().cpu().view(1), **{
        name: torch.cat([one.flatten().cpu() for one in parts]) for name, parts in
        (('gradients', gradients), ('weights', moved), ('statistics', statistics))}}


CONTRASTIVE = ['detcon', 'detcon_s', 'moco', 'byol', 'simclr']
CASES = [*((name, dtype) for name in CONTRASTIVE for dtype in TOLERANCES),
         ('rotation', torch.float32)]       # whose loss is always of float32


@pytest.mark.parametrize('name, dtype', CASES, ids=str)
def test_a_step_is_that_of_the_cpu(name, dtype, device):
    torch.manual_seed(0)
    small = {'moco': dict(queue=32)}.get(name, {})
    here = METHODS.build(dict(type=name, backbone=dict(type='torchvision.resnet18'), **small))
    here.init_weights()
    here.train().to(dtype)
    there = deepcopy(here).to(device).to(memory_format=torch.channels_last)
    views = batch_for(here, samples=8)
    results = []
    for method, where in ((here, 'cpu'), (there, device)):
        moved = [replace(view, image=view.image.to(where, dtype), mask=view.mask.to(where),
                         uniforms=view.uniforms.to(where), target=view.target.to(where))
                 for view in views]
        results.append(step(method, moved))
    for part, most in TOLERANCES[dtype].items():
        expected, got = results[0][part], results[1][part]
        assert torch.isfinite(got).all()
        apart = float((got - expected).norm() / expected.norm())
        assert apart <= most, f'{part} differ by {apart:.1e}'
