"""Whole methods: three steps on two gloo processes with half the batch each against one process
with the whole batch, in double precision."""
from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from batches import SMALL, batch_for
from gloo import half, on_two_processes
from torch import Tensor, nn

from densessl.dist import synchronize_batch_norm
from densessl.method import View
from densessl.plugins import load_plugins
from densessl.registry import METHODS

STEPS = 3
METHODS_IN_TURN = {   # MoCo normalizes by process: alone, in as many groups
    'simclr': dict(projection=8),
    'byol': dict(projection=(16, 8)),
    'detcon': dict(projection=(16, 8), num_regions=4),
    'detcon_s': dict(projection=8, num_regions=4),
    'moco': dict(projection=8, queue=12),
    'cpc': SMALL['cpc'],
}


@dataclass
class Trained:
    """What three steps left: losses, the last gradients by name, and the state dict."""

    losses: list[Tensor]
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]


def train(name: str, rank: int | None) -> Trained:
    torch.manual_seed(0)
    own_groups = dict(bn_groups=2) if name == 'moco' and rank is None else {}
    norm = dict(norm='layer') if name == 'cpc' else {}
    method = METHODS.build(dict(type=name, backbone=dict(type='torchvision.resnet18', **norm),
                                **METHODS_IN_TURN[name], **own_groups)).double()
    method.init_weights()
    views = [doubled(view, rank) for view in batch_for(method, samples=4)]
    wrapped = method
    if rank is not None:
        if name != 'moco':
            method = synchronize_batch_norm(method, 'cpu')
        wrapped = nn.parallel.DistributedDataParallel(method, broadcast_buffers=False)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)   # the runner seeds every process alike from (seed, step)
        optimizer.zero_grad()
        loss = wrapped(views)['loss']
        loss.backward()
        optimizer.step()
        method.after_step(step, STEPS)
        losses.append(loss.detach())
    return Trained(losses, {n: p.grad for n, p in method.named_parameters() if p.requires_grad},
                   method.state_dict())


def doubled(view: View, rank: int | None) -> View:
    """The view in double precision, or this process's half of it."""
    def part(x: Tensor | None) -> Tensor | None:
        return x if x is None or rank is None else half(x, rank)
    return View(image=part(view.image.double()), mask=part(view.mask),
                uniforms=part(view.uniforms), target=part(view.target), regions=view.regions)


def train_all(rank: int | None) -> dict[str, Trained]:
    load_plugins()
    return {name: train(name, rank) for name in METHODS_IN_TURN}


@pytest.fixture(scope='module')
def runs():
    return train_all(None), on_two_processes(train_all)


@pytest.mark.parametrize('name', METHODS_IN_TURN)
def test_two_processes_train_as_one(runs, name):
    whole, parts = runs[0][name], [part[name] for part in runs[1]]
    for step in range(STEPS):
        mean = sum(part.losses[step] for part in parts) / len(parts)
        torch.testing.assert_close(mean, whole.losses[step], atol=1e-9, rtol=1e-9)
    assert whole.losses[0] != whole.losses[-1]
    for part in parts:
        assert part.gradients.keys() == whole.gradients.keys()
        for key, gradient in whole.gradients.items():
            torch.testing.assert_close(part.gradients[key], gradient, atol=1e-8, rtol=1e-6,
                                       msg=key)
        for key, value in whole.state.items():
            if name == 'moco' and ('running_' in key or 'tracked' in key):
                continue   # a process's own statistics, of its own images
            torch.testing.assert_close(part.state[key], value, atol=1e-8, rtol=1e-6, msg=key)
