"""Tests on a GPU compare it with the CPU, in float32 without TF32.

Without a GPU they are skipped; with ``DENSESSL_GPU_TESTS=cpu`` they compare the CPU with itself,
so that no line of them is untested.
"""
from __future__ import annotations

import os

import pytest
import torch

ON_CPU = os.environ.get('DENSESSL_GPU_TESTS') == 'cpu'


@pytest.fixture
def device():
    if ON_CPU:
        return 'cpu'
    if not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    return 'cuda'


@pytest.fixture(autouse=True)
def no_tf32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
