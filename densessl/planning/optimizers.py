"""Optimizers: LARS in the form of the methods' released code, the grouping of parameters for it,
and mixed precision in bfloat16."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn
from torch.optim import Optimizer

from densessl.bounds import Momentum, NotNegative, Range


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017), as released with SimCLR and BYOL.

    With g + λw for the decayed gradient and r = η·‖w‖/‖g + λw‖ (1 where either norm is 0):

    * ``lr_in_momentum=True`` (google-research/simclr): v ← m·v + lr·r·(g + λw); w ← w − v
    * ``lr_in_momentum=False`` (deepmind-research/byol, google-deepmind/detcon):
      v ← m·v + r·(g + λw); w ← w − lr·v

    They differ whenever lr changes. A group with ``adapt=False`` takes r = 1.

    Args:
        lr: learning rate. momentum: m. weight_decay: λ. trust: η.
    """

    def __init__(self, params: Iterable[Any], lr: NotNegative, momentum: Momentum = 0.9,
                 weight_decay: NotNegative = 0.0,
                 trust: Annotated[float, Range(above=0)] = 1e-3, lr_in_momentum: bool = False,
                 adapt: bool = True) -> None:
        if lr < 0 or momentum < 0 or weight_decay < 0 or trust <= 0:
            raise ValueError(f'lr {lr}, momentum {momentum} and weight_decay {weight_decay} must '
                             f'be at least 0, trust {trust} above 0')
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay,
                                      trust=trust, lr_in_momentum=lr_in_momentum, adapt=adapt))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group['params'] if p.grad is not None]
            if weights:
                self._update(group, weights)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        updates = torch._foreach_add([p.grad for p in weights], weights,
                                     alpha=group['weight_decay'])          # g + λw
        if group['adapt']:
            torch._foreach_mul_(updates, _trust_ratios(weights, updates, group['trust']))
        for p in weights:
            if 'momentum_buffer' not in self.state[p]:
                self.state[p]['momentum_buffer'] = torch.zeros_like(p)
        velocities = [self.state[p]['momentum_buffer'] for p in weights]
        torch._foreach_mul_(velocities, group['momentum'])
        inside, outside = (group['lr'], 1.0) if group['lr_in_momentum'] else (1.0, group['lr'])
        torch._foreach_add_(velocities, updates, alpha=inside)
        torch._foreach_add_(weights, velocities, alpha=-outside)


def _trust_ratios(weights: list[Tensor], updates: list[Tensor], trust: float) -> list[Tensor]:
    """η·‖w‖/‖u‖ of each pair, 1 where either norm is 0; computed without leaving the device."""
    w, u = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, updates))
    ratio = torch.where((w > 0) & (u > 0), trust * w / u, torch.ones_like(w))
    return list(ratio.unbind())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ExcludeBiasAndNorm(DefaultOptimWrapperConstructor):
    """Two parameter groups: weights, and what the recipes exclude from weight decay and from
    adaptation: biases and normalization parameters, that is everything of one dimension."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        wrapper = dict(self.optim_wrapper_cfg)
        wrapper.setdefault('type', 'OptimWrapper')
        optimizer = dict(self.optimizer_cfg)
        optimizer['params'] = self.groups(model, adapts=optimizer['type'] == 'LARS')
        wrapper['optimizer'] = OPTIMIZERS.build(optimizer)
        return OPTIM_WRAPPERS.build(wrapper)

    @staticmethod
    def groups(model: nn.Module, *, adapts: bool) -> list[dict[str, Any]]:
        """The two groups, weights first; parameters without gradient are left out."""
        trained = [p for p in model.parameters() if p.requires_grad]
        excluded: dict[str, Any] = dict(params=[p for p in trained if p.ndim <= 1],
                                        weight_decay=0.0)
        if adapts:
            excluded['adapt'] = False
        return [dict(params=[p for p in trained if p.ndim > 1]), excluded]


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the networks under bfloat16 autocast; weights, losses and updates stay float32.

    For float16 on GPUs take mmengine's ``AmpOptimWrapper``, which scales the loss.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a training step."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
