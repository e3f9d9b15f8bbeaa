"""The path of a GPU without one: whole training steps on tensors that have a device and a shape,
but no values. Whatever would wait for the device asks for a value, and fails; so does what mixes
host and device. (Backward passes, which are PyTorch's own, need the device itself.)"""
from __future__ import annotations

import numpy as np
import pytest
import torch
from batches import SMALL
from mmengine.optim import build_optim_wrapper
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from densessl.planning import optimizers as lars  # noqa: F401  register what configs name
from densessl.registry import METHODS
from densessl.views.collate import collate
from densessl.views.photometry import ViewPreprocessor
from densessl.views.view import AugmentedView, make_views, view_class_of

PHOTOMETRY = dict(
    jitter=dict(p=1.0, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.5,
    blur=dict(p=0.5, sigma=(0.1, 2.0)), solarize=dict(p=0.5))
MODELS = {
    'simclr': dict(projection=8),
    'byol': dict(projection=(16, 8)),
    'detcon': dict(projection=(16, 8), num_regions=4),
    'detcon_s': dict(projection=8, num_regions=4),
    'moco': dict(projection=8, queue=12),
    'rotation': {}, 'jigsaw': SMALL['jigsaw'], 'relative_location': SMALL['relative_location'],
    'cpc': SMALL['cpc'],
}
LARS = dict(type='OptimWrapper', constructor='ExcludeBiasAndNorm',
            optimizer=dict(type='LARS', lr=0.1))
SGD = dict(type='BFloat16OptimWrapper', constructor='ExcludeBiasAndNorm',
           optimizer=dict(type='SGD', lr=0.1, momentum=0.9))


class Transfers(TorchDispatchMode):
    """Notes copies between devices: ``('cpu', 'cuda', whether nobody waits)``."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[1] if function is torch.ops.aten.copy_.default else args[0]
            if source.device.type != out.device.type:
                asked = kwargs.get('non_blocking', False) or (len(args) > 2 and args[2])
                self.seen.append((source.device.type, out.device.type, bool(asked)))
        return out


class OnHost(np.ndarray):
    """Parameters that have their values, as all that stays on the host has."""

    def numpy(self):
        return np.asarray(self)


def batch_of(method, style='torchvision'):
    """Six collated samples of a method's own views, on the host."""
    rng = np.random.default_rng(0)
    if method.view_class is None:
        views = [AugmentedView(size=64, style=style, **PHOTOMETRY)] * (method.views or 2)
    else:
        views = [view_class_of(method)()] * (method.views or 1)
    mask = np.arange(9600, dtype=np.uint8).reshape(80, 120) // 50 % 7
    samples = [make_views(views, rng, rng.integers(0, 256, (80, 120, 3), np.uint8),
                          mask if method.needs_masks else None, uniforms=64) for _ in range(6)]
    batch = collate(samples)
    batch['photometric'] = [rows.numpy().view(OnHost) for rows in batch['photometric']]
    return batch


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda tensor: tensor)
    monkeypatch.setattr(torch.autograd, 'grad', lambda value, sources: tuple(
        map(torch.zeros_like, sources)))


def backward_of(method, monkeypatch):
    """In the place of the backward pass: gradients, without values as all else."""
    def backward(loss):
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    monkeypatch.setattr(torch.Tensor, 'backward', backward)


@pytest.mark.usefixtures('without_gpu')
@pytest.mark.parametrize('optim', [LARS, SGD], ids=['lars', 'bfloat16 sgd'])
@pytest.mark.parametrize('name', MODELS)
def test_no_step_waits_for_the_device(name, optim, monkeypatch):
    batch = batch_of(METHODS.get(name))
    method = METHODS.build(dict(type=name, backbone=dict(type='torchvision.resnet18'),
                                **MODELS[name]))
    method.data_preprocessor = ViewPreprocessor()
    method.to(memory_format=torch.channels_last)
    with FakeTensorMode(allow_non_fake_inputs=True), Transfers() as transfers:
        method.to('cuda')
        wrapper = build_optim_wrapper(method, optim)
        backward_of(method, monkeypatch)
        transfers.seen.clear()
        method.train_step(batch, wrapper)
        method.after_step(0, 10)
    assert transfers.seen, 'the batch was copied'
    assert set(transfers.seen) == {('cpu', 'cuda', True)}
