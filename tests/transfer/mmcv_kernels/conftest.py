"""Every op is called through mmcv's public functions, on the bridge's kernels."""
import importlib

import pytest
import torch

from densessl.transfer import mmcv_ops

CALLERS = ('bbox', 'carafe', 'deform_conv', 'deform_roi_pool', 'focal_loss',
           'modulated_deform_conv', 'multi_scale_deform_attn', 'nms', 'psa_mask', 'roi_align',
           'roi_pool')


@pytest.fixture
def callers():
    """The modules of mmcv.ops (whose functions of the same name hide some of them)."""
    return [importlib.import_module(f'mmcv.ops.{name}') for name in CALLERS]


@pytest.fixture(autouse=True)
def bridge(monkeypatch, callers):
    """The bridge, also where a compiled mmcv is installed and `install` leaves it alone."""
    torch.manual_seed(0)
    for caller in callers:
        monkeypatch.setattr(caller, 'ext_module', mmcv_ops.Bridge())
