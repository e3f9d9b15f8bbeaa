"""What every installed method must do, whoever wrote it."""
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from batches import ALL, SMALL, batch_for, total
from torch import nn

from densessl.backbones import build_backbone
from densessl.config import load_config
from densessl.ema import cosine_tau
from densessl.method import Method, View
from densessl.registry import METHODS
from densessl.training.runner import PretrainRunner
from densessl.transfer.export import export_backbone
from densessl.views.photometry import ViewPreprocessor
from densessl.watch.alarms import Alarms
from densessl.watch.health import HealthHook

BACKBONE = dict(type='torchvision.resnet18')


def build(name: str) -> Method:
    return METHODS.build(dict(type=name, backbone=BACKBONE, **SMALL.get(name, {})))


@pytest.fixture(params=ALL)
def method(request):
    torch.manual_seed(0)
    built = build(request.param)
    built.init_weights()
    return built.train()


def views_of(method) -> list[View]:
    return batch_for(method)


def symmetric(image: torch.Tensor) -> torch.Tensor:
    """The first image (1, 3, S, S), made the same from all four sides."""
    first = image.flatten(0, -4)[:1]
    return sum(first.rot90(turn, (2, 3)) for turn in range(4)) / 4


def targets_of(method) -> dict[str, nn.Module]:
    """Modules that take no gradient: target networks."""
    return {name: module for name, module in method.named_children()
            if list(module.parameters()) and not any(p.requires_grad for p in module.parameters())}


class Older(Method):
    """As methods were written when their signatures carried the preprocessor."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = build_backbone(backbone)


@pytest.mark.parametrize('name', ['older', 'rotation'])
def test_the_engine_sets_the_preprocessor_of_what_it_builds(name, monkeypatch):
    monkeypatch.setitem(METHODS.module_dict, 'older', Older)
    cfg = load_config('small/rotation_r18', {'normalization.mean': (51, 102, 204)})
    built = PretrainRunner.build_model(SimpleNamespace(cfg=cfg), dict(type=name, backbone=BACKBONE))
    assert isinstance(built.data_preprocessor, ViewPreprocessor)
    assert (255 * built.data_preprocessor.mean).flatten().tolist() == [51, 102, 204]
    assert not any(key.startswith('data_preprocessor') for key in built.state_dict())


def test_every_trained_parameter_gets_a_finite_gradient(method):
    loss = total(method, views_of(method))
    assert loss.ndim == 0 and torch.isfinite(loss)
    loss.backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f'{name} gets no gradient'
            assert torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None, f'{name} is not trained but gets a gradient'


def test_two_steps_reduce_the_loss_on_a_fixed_batch(method):
    views = views_of(method)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(3):
        loss = total(method, views)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_targets_move_only_after_the_step(method):
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    total(method, views_of(method)).backward()
    assert all(torch.equal(p, before[name]) for name, p in method.named_parameters())
    with torch.no_grad():
        for p in method.parameters():
            if p.requires_grad:
                p.add_(0.1)
    with torch.no_grad():
        method.after_step(0, 10)
    tau = (cosine_tau(0, 10, method.tau_base) if hasattr(method, 'tau_base')
           else getattr(method, 'momentum', None))
    for name in targets_of(method):
        online = method.get_submodule(name.removeprefix('target_'))
        for (key, p), theta in zip(method.get_submodule(name).named_parameters(),
                                   online.parameters(), strict=True):
            expected = tau * before[f'{name}.{key}'] + (1 - tau) * theta   # ξ ← τ·ξ + (1 − τ)·θ
            torch.testing.assert_close(p, expected, msg=f'{name}.{key}')
        moved = [not torch.equal(p, before[f'{name}.{key}'])
                 for key, p in method.get_submodule(name).named_parameters()]
        assert all(moved), f'{name} has not followed'


def test_state_round_trips(method):
    views = views_of(method)
    twin = build(method.name).train()
    twin.load_state_dict(method.state_dict())
    torch.manual_seed(1)
    first = total(method, views)
    torch.manual_seed(1)
    torch.testing.assert_close(total(twin, views), first)


def test_the_backbone_is_what_is_kept(method):
    keys = [key for key in method.state_dict() if key.startswith('backbone.')]
    assert 'backbone.layer4.1.bn2.weight' in keys and len(keys) == 120
    maps = method(views_of(method), mode='tensor')[0]
    assert [tuple(m.shape[1:]) for m in maps][-1] == (512, 2, 2)


def test_export_takes_out_the_backbone(method, tmp_path):
    facts = dict(method=method.name, backbone=BACKBONE, mean=[0.0] * 3, std=[1.0] * 3,
                 channel_order='RGB')
    torch.save({'state_dict': method.state_dict(), 'meta': {'densessl': facts}},
               tmp_path / 'iter_1.pth')
    exported = export_backbone(tmp_path / 'iter_1.pth')
    backbone = build_backbone(BACKBONE)
    backbone.load_state_dict(torch.load(exported.path, weights_only=True)['state_dict'])
    for name, value in method.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name


def test_a_collapsed_batch_is_reported(method):
    """The hook sees the backbone of every method; images that look all the same are reported.
    (They look the same from all four sides: a method may turn them, or compare parts of them.)"""
    hook = HealthHook(interval=1)
    hook.watch(method)
    hook.look = True
    for views, collapsed in ((views_of(method), False), (views_of(method), True)):
        if collapsed:   # one image, repeated in both views
            same = symmetric(views[0].image)
            views = [replace(v, image=same.expand_as(v.image)) for v in views]
        with torch.no_grad():
            method.loss(views)
        figures = {name: float(value) for name, value in hook.figures(method).items()}
        alarms = [alarm for alarm in Alarms(1).judge(1, figures) if alarm.name == 'collapse']
        assert bool(alarms) == collapsed
    assert 'collapsing' in alarms[0].text
