"""What PyTorch's backends may do to be fast, said in one place."""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

# What `deterministic` needs of cuBLAS. PyTorch looks once a process, at its first matrix product on
# a GPU, which may be long before a run says what it wants; the value is what a Hopper takes anyway.
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')

CONVOLUTIONS = 'convolutions'
TF32 = bool | Literal['convolutions']


@dataclass(frozen=True)
class Backends:
    """The settings of a run.

    Attributes:
        tf32: where GPUs may round the factors of a product to 10 bits: in convolutions (PyTorch's
            own default), in matrix products too (True), or nowhere (False).
        cudnn_benchmark: cuDNN tries its algorithms for every new shape and keeps the fastest,
            which need not be the same one in the next run.
        deterministic: the same input gives the same bits on the same GPU, more slowly; what
            PyTorch cannot compute so is an error. cuDNN does not try algorithms then.
    """

    tf32: bool | str = CONVOLUTIONS
    cudnn_benchmark: bool = True
    deterministic: bool = False

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Backends:
        """What a pretraining config says."""
        return cls(**{key: cfg[key] for key in cls.__dataclass_fields__ if key in cfg})

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, they hold; then what held before."""
        before = {'matmul': torch.backends.cuda.matmul.allow_tf32,
                  'convolution': torch.backends.cudnn.allow_tf32,
                  'benchmark': torch.backends.cudnn.benchmark,
                  'deterministic': torch.backends.cudnn.deterministic,
                  'algorithms': torch.are_deterministic_algorithms_enabled()}
        _set(matmul=self.tf32 is True, convolution=bool(self.tf32),
             benchmark=self.cudnn_benchmark and not self.deterministic,
             deterministic=self.deterministic, algorithms=self.deterministic)
        try:
            yield
        finally:
            _set(**before)

    def __str__(self) -> str:
        where = {True: 'TF32 in convolutions and matrix products', False: 'no TF32',
                 CONVOLUTIONS: 'TF32 in convolutions'}[self.tf32]
        if self.deterministic:
            return f'{where}, deterministic'
        tries = 'tries its' if self.cudnn_benchmark else 'does not try'
        return f'{where}, cuDNN {tries} algorithms'


def _set(*, matmul: bool, convolution: bool, benchmark: bool, deterministic: bool,
         algorithms: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolution
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(algorithms)
