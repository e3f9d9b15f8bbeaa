"""The kernels against mmcv's own, where those are installed."""
import sys

import pytest
import torch
from mmcv_cases import CASES, outputs_and_gradients

from densessl.transfer import mmcv_ops

COMPILED = sys.modules[mmcv_ops.EXTENSION]
if isinstance(COMPILED, mmcv_ops.Bridge):
    pytest.skip('mmcv is installed without its compiled ops', allow_module_level=True)
CUDA = torch.cuda.is_available()
ONLY_CUDA = pytest.mark.skipif(not CUDA, reason='mmcv has this op for CUDA only')
CPU_TOO = ('nms', 'soft_nms', 'bbox', 'roi_align', 'deform_conv', 'modulated', 'psa_mask')


@pytest.mark.parametrize('name', [
    name if name.startswith(CPU_TOO) else pytest.param(name, marks=ONLY_CUDA) for name in CASES])
def test_matches_the_compiled_op(name, monkeypatch, callers):
    call, operands = CASES[name]
    device = 'cuda' if CUDA else 'cpu'
    operands = [operand if operand is None else operand.to(device) for operand in operands()]
    found = []
    for extension in (COMPILED, mmcv_ops.Bridge()):
        for caller in callers:
            monkeypatch.setattr(caller, 'ext_module', extension)
        found.append(outputs_and_gradients(call, operands))
    torch.testing.assert_close(found[1], found[0])
