"""What mmengine and torch do not have for processes: gather with gradient, a synchronized batch
norm that also runs on CPUs (torch's needs a GPU), and a look at how this process was started."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_rank as rank
from mmengine.dist import get_world_size as world_size
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormOfTorch

from densessl.errors import UsageError

_RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
_SIZES = {'pytorch': 'WORLD_SIZE', 'mpi': 'OMPI_COMM_WORLD_SIZE'}


def check_launcher(launcher: str, command: str) -> None:
    """Refuse several processes that would each do the whole run, and a launcher that is missing.

    Within a Slurm step of several tasks, each may be a run of its own (a sweep), so this is only
    reported; the lock of the work folder refuses the others.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        command: of densessl, for the message.
    """
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UsageError(f'--launcher pytorch needs torchrun: torchrun --nproc_per_node N '
                         f'tools/{command}.py CONFIG --launcher pytorch')
    if launcher == 'slurm' and 'SLURM_STEP_NUM_TASKS' not in os.environ:
        raise UsageError(f'--launcher slurm needs srun, which starts every process: srun python '
                         f'tools/{command}.py CONFIG --launcher slurm')
    if launcher != 'none':
        return
    for name, variable in _SIZES.items():
        if _whole(variable) > 1:
            raise UsageError(
                f'{variable} is {os.environ[variable]}: this is one of several processes, and '
                f'without a launcher each would do the whole run by itself; add --launcher {name} '
                f'to the command, or start it once')
    if _whole('SLURM_STEP_NUM_TASKS') > 1 and _whole('SLURM_PROCID') == 0:
        print(f'this Slurm step has {os.environ["SLURM_STEP_NUM_TASKS"]} tasks, each a run of its '
              f'own; if they are to be one run, add --launcher slurm', file=sys.stderr)


def launched_rank(launcher: str) -> int:
    """The rank that ``launcher`` gives this process, before a process group is initialized."""
    return _whole(_RANKS[launcher]) if launcher in _RANKS else 0


def is_first_process() -> bool:
    """Whether this process speaks and writes for all; known before a process group is there."""
    return os.environ.get('RANK', '0') == '0'


def print_once(text: str) -> None:
    """Print for all processes, at once."""
    if is_first_process():
        print(text, flush=True)


def _whole(variable: str) -> int:
    value = os.environ.get(variable, '')
    return int(value) if value.isdecimal() else 0


@contextmanager
def while_first_works() -> Iterator[None]:
    """Within, rank 0 may work alone for hours, such as on masks, while the others wait at the end:
    a collective operation would give up after some minutes."""
    if world_size() == 1:
        yield
        return
    group = dist.new_group(backend='gloo', timeout=timedelta(days=30))
    yield
    dist.barrier(group)
    dist.destroy_process_group(group)


class _Gather(torch.autograd.Function):
    """Concatenate over ranks; the gradient of this rank's part is the sum over all ranks'."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()   # parts take its strides, and channels-last ones would differ
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather(tensor: Tensor) -> Tensor:
    """(B, …) of every rank, equal B → (world_size · B, …) in order of rank, differentiable.

    The gradient is that of the *sum* of all ranks' losses; DDP's averaging then makes it that of
    their mean."""
    return _Gather.apply(tensor) if world_size() > 1 else tensor


class _Sum(torch.autograd.Function):
    """Sum over ranks, forward and backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all ranks, on any device; equal batches are assumed."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f'expected at least a 2D input, got {input.dim()}D')

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        dims = [d for d in range(x.dim()) if d != 1]
        count = x.numel() / x.shape[1] * world_size()
        mean = _Sum.apply(x.sum(dims)) / count                                # (C,)
        shape = [1, -1] + [1] * (x.dim() - 2)
        centered = x - mean.view(shape)
        var = _Sum.apply((centered ** 2).sum(dims)) / count                   # (C,) biased
        if self.track_running_stats:
            self._track(mean.detach(), var.detach() * count / max(count - 1, 1))
        out = centered * torch.rsqrt(var.view(shape) + self.eps)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        self.num_batches_tracked += 1
        m = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean, m)
        self.running_var.lerp_(var, m)


class _OfEqualBatches(SyncBatchNormOfTorch):
    """torch's synchronized batch norm on GPUs, for equal batches: torch's looks in every layer
    which processes have an empty one, and waits for the device to learn it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None,
                running_mean: Tensor | None, running_var: Tensor | None, eps: float,
                momentum: float, group: Any, processes: int) -> Tensor:
        if not any(x.is_contiguous(memory_format=memory_format) for memory_format in (
                torch.channels_last, torch.channels_last_3d)):
            x = x.contiguous()
        local = torch.cat(torch.batch_norm_stats(x, eps))                       # (2·C,)
        parts = [torch.empty_like(local) for _ in range(processes)]
        dist.all_gather(parts, local, group)
        means, inverse_deviations = torch.stack(parts).chunk(2, 1)              # (W, C) each
        counts = torch.full((processes,), x.numel() // x.shape[1], dtype=local.dtype,
                            device=x.device)
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            x, means, inverse_deviations, running_mean, running_var, momentum, eps, counts)
        ctx.save_for_backward(x, weight, mean, invstd, counts.to(torch.int32))
        ctx.process_group = group
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, eps)


class DeviceSyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the batches of all ranks, on GPUs; equal batches are assumed, and the host
    never waits."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1 or self.momentum is None:
            return super().forward(input)
        self._check_input_dim(input)
        running_mean, running_var = None, None
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            running_mean, running_var = self.running_mean, self.running_var
        return _OfEqualBatches.apply(input, self.weight, self.bias, running_mean, running_var,
                                     self.eps, self.momentum, dist.group.WORLD, world_size())


def synchronize_batch_norm(module: nn.Module, device_type: str) -> nn.Module:
    """Replace every batch norm in ``module`` by one synchronized over ranks:
    :class:`DeviceSyncBatchNorm` on a GPU, :class:`SyncBatchNorm` elsewhere. Parameters and
    statistics are kept."""
    module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for norm in module.modules():
        if type(norm) is nn.SyncBatchNorm:
            norm.__class__ = DeviceSyncBatchNorm if device_type == 'cuda' else SyncBatchNorm
            if any(True for _ in norm.children()):
                norm.register_forward_hook(_apply_layers)
    return module


def _apply_layers(norm: nn.Module, _: Any, out: Tensor) -> Tensor:
    """Layers of a batch norm's own come after it: those of some networks of timm hold the
    activation, which torch's conversion keeps and does not apply."""
    for layer in norm.children():
        out = layer(out)
    return out
