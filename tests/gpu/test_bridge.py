"""Detection's ops by the bridge on a GPU, beside the CPU: outputs and gradients."""
from __future__ import annotations

import importlib

import pytest
import torch
from mmcv_cases import CASES, outputs_and_gradients

from densessl.transfer import mmcv_ops

pytestmark = pytest.mark.gpu
CALLERS = ('bbox', 'carafe', 'deform_conv', 'deform_roi_pool', 'focal_loss',
           'modulated_deform_conv', 'multi_scale_deform_attn', 'nms', 'psa_mask', 'roi_align',
           'roi_pool')


@pytest.fixture(autouse=True)
def bridge(monkeypatch):
    """The bridge, also where a compiled mmcv is installed."""
    for name in CALLERS:
        monkeypatch.setattr(importlib.import_module(f'mmcv.ops.{name}'), 'ext_module',
                            mmcv_ops.Bridge())


def on(value, device):
    """Tensors within ``value`` on a device, without gradients."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device)
    return [on(one, device) for one in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize('name', CASES)
def test_is_that_of_the_cpu(name, device):
    torch.manual_seed(0)
    call, operands = CASES[name]
    here = operands()
    expected = outputs_and_gradients(call, here)
    got = outputs_and_gradients(call, on(here, device))
    torch.testing.assert_close(on(got, 'cpu'), on(expected, 'cpu'), rtol=1e-4, atol=1e-4)
