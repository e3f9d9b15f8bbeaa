"""Is the run learning? Figures that need no labels, computed on the device at a line of the log and
read together; between two lines nothing is computed and nothing waits."""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from densessl.engine.stop import micro_batches
from densessl.features.geometry import (
    alignment,
    cells_of,
    effective_rank,
    mean_regions,
    spread,
    uniformity,
)
from densessl.method import Compared, Method, View
from densessl.watch.alarms import Alarm, Alarms
from densessl.watch.energy import EnergyMeter
from densessl.watch.record import ALARMS, HEALTH, JsonLines

ROWS = 512      # at most so many feature vectors are compared with one another


class HealthHook(Hook):
    """Logs the figures of :meth:`figures` to every backend and ``health.jsonl``, and what is wrong
    with them to the log and ``alarms.jsonl``.

    Args:
        interval: iterations between two looks, the logger's interval.
        first: what is wrong before the first step.
    """

    priority = 'HIGH'       # after the losses were read, before the logger

    def __init__(self, interval: int, first: list[Alarm] | None = None) -> None:
        self.interval, self.first = interval, first or []
        self.look = self.look_update = False
        self.maps: Tensor | None = None
        self.views: list[View] = []
        self.compared: Compared | None = None
        self.before: list[Tensor] = []                  # the weights before an update
        self.of_update: dict[str, Tensor] = {}
        self.alarms: Alarms | None = None
        self.files: dict[str, JsonLines] = {}
        self.energy: EnergyMeter | None = None          # of the first process

    def before_train(self, runner: Runner) -> None:
        self.watch(getattr(runner.model, 'module', runner.model))
        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_pre_hook(self._before_update)
        optimizer.register_step_post_hook(self._after_update)
        self.alarms = Alarms(runner.max_iters)
        if is_main_process():
            self.files = {name: JsonLines(Path(runner.work_dir) / name)
                          for name in (HEALTH, ALARMS)}
            lines = self.files[HEALTH].begin(runner.iter)
            self.energy = EnergyMeter(next((line['energy_kwh'] for line in reversed(lines)
                                            if 'energy_kwh' in line), 0.0))
            for line in lines:      # so that no alarm comes twice
                self.alarms.judge(line['step'], {key: value for key, value in line.items()
                                                 if isinstance(value, float)})
            if not self.files[ALARMS].begin(runner.iter):
                self._raise(runner, self.first)

    def watch(self, method: Method) -> None:
        """Have a method show its views, the maps of its backbone and what it compares."""
        method.register_forward_pre_hook(self._see_views, with_kwargs=True)
        method.backbone.register_forward_hook(self._see_maps)
        method.watcher = self._see_compared

    def _see_views(self, method: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]
                   ) -> None:
        if self.look:
            self.views = named['views'] if 'views' in named else inputs[0]

    def _see_maps(self, module: nn.Module, inputs: Any, maps: Any) -> None:
        if self.look and module.training:       # a probe looks at the backbone, too
            self.maps = maps[-1].detach()

    def _see_compared(self, compared: Compared) -> None:
        if self.look:
            self.compared = compared

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        to_line = -(runner.iter + 1) % self.interval
        self.look, self.look_update = to_line == 0, to_line < micro_batches(runner)

    @torch.no_grad()
    def _before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self.look_update:
            return
        weights = _trained(optimizer)
        gradients = [p.grad for p in weights if p.grad is not None]
        if gradients:
            self.of_update = {'gradient': _length(gradients)}
        self.before = torch._foreach_mul(weights, 1.0)

    @torch.no_grad()
    def _after_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self.before:
            steps = torch._foreach_sub(_trained(optimizer), self.before)
            self.of_update['update'] = _length(steps) / _length(self.before).clamp(min=1e-30)
            self.before = []

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        if not self.look:
            return
        found = self.figures(getattr(runner.model, 'module', runner.model))
        if 'loss_trivial' in found and 'loss' in (outputs or {}):
            found['loss_of_trivial'] = outputs['loss'] / found['loss_trivial']
        self.maps, self.compared, self.views, self.of_update = None, None, [], {}
        figures = _read(found)
        if 'spread' in figures:
            runner.message_hub.update_scalar('train/spread', figures['spread'])
        figures |= _rates(runner.optim_wrapper.optimizer)
        runner.log_processor.health = figures
        figures = {**_logged(runner), **figures}
        step = runner.iter + 1
        if self.files:
            kwh = self.energy.kwh()
            self.files[HEALTH].append({'step': step, **figures,
                                       **({} if kwh is None else {'energy_kwh': kwh})})
        self._raise(runner, self.alarms.judge(step, figures))

    def figures(self, method: Method) -> dict[str, Tensor | float]:
        """What the iteration that is over tells, on the device: of a process's own images.

        ``spread`` and ``rank_backbone`` of the last feature map; ``rank_projections``,
        ``alignment``, ``uniformity``, ``positive_similarity``, ``negative_similarity``,
        ``anchors_with_positive`` and ``loss_trivial`` of what the loss compares, where the method
        shows it; ``regions_a_view`` of the masks; ``ema_distance`` of a target; ``gradient`` and
        ``update``, the length of an update as a share of the weights'.
        """
        found: dict[str, Tensor | float] = dict(self.of_update)
        if self.maps is not None and self.maps.dim() == 4:
            if len(self.maps) > 1:      # one image is never apart from itself
                found['spread'] = spread(self.maps)
            found['rank_backbone'] = effective_rank(cells_of(self.maps, ROWS))
        if self.compared is not None:
            found |= of_compared(self.compared)
        masks = [view for view in self.views if view.mask is not None]
        if masks:
            found['regions_a_view'] = torch.stack([
                mean_regions(view.mask, view.regions or int(view.mask.max()) + 1)
                for view in masks]).mean()
        if (distance := ema_distance(method)) is not None:
            found['ema_distance'] = distance
        return found

    def _raise(self, runner: Runner, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            runner.logger.warning(f'iteration {alarm.step}: {alarm}')
            if self.files:
                self.files[ALARMS].append(asdict(alarm))


def of_compared(compared: Compared) -> dict[str, Tensor | float]:
    """The figures of what a loss compares, by as many images as have :data:`ROWS` vectors."""
    q, k = compared.queries, compared.keys
    if q.dim() == 2:
        q, k = q[:, None], k[:, None]                                       # (B, R, D)
    regions = q.shape[1]
    most = max(2, ROWS // regions)
    q, k = (F.normalize(x[:most].float(), dim=-1) for x in (q, k))
    image = torch.arange(len(q), device=q.device).repeat_interleave(regions)
    q, k = q.flatten(0, 1), k.flatten(0, 1)                                 # (n, D)
    same_image = image[:, None] == image[None]
    positive = same_image
    found: dict[str, Tensor | float] = {'rank_projections': effective_rank(q)}
    if compared.ids is not None:
        ids, other = (one[:most].flatten() for one in compared.ids)
        positive = same_image & (ids[:, None] == other[None])
        found['anchors_with_positive'] = positive.any(1).float().mean()
    similarity = q @ k.T
    found['alignment'] = alignment(q, k, positive)
    found['positive_similarity'] = (similarity * positive).sum() / positive.sum().clamp(min=1)
    if len(q) > 1:
        found['uniformity'] = uniformity(q)
    if compared.negatives is not None:
        found['negative_similarity'] = (q @ compared.negatives[:16 * ROWS].float().T).mean()
    elif regions < len(q):
        found['negative_similarity'] = (similarity * ~same_image).sum() / (~same_image).sum()
    if compared.trivial is not None:
        found['loss_trivial'] = torch.as_tensor(compared.trivial(), device=q.device)
    return found


def ema_distance(method: nn.Module) -> Tensor | None:
    """How far the weights of the networks named ``target_…`` are from those of the networks that
    they are named after, as a share of the length of these; None if there are none."""
    pairs = []
    for name, target in method.named_children():
        online = getattr(method, name.removeprefix('target_'), None)
        if name.startswith('target_') and isinstance(online, nn.Module):
            one, other = list(online.parameters()), list(target.parameters())
            if [p.shape for p in one] == [p.shape for p in other]:
                pairs += zip(one, other, strict=True)
    if not pairs:
        return None
    online, target = ([pair[i] for pair in pairs] for i in (0, 1))
    return _length(torch._foreach_sub(online, target)) / _length(online).clamp(min=1e-30)


def _read(found: Mapping[str, Tensor | float]) -> dict[str, float]:
    """The mean of each figure over the processes, by one reading of the device; those that are not
    finite are left out."""
    if not found:
        return {}
    device = next((value.device for value in found.values() if isinstance(value, Tensor)), None)
    values = torch.stack([torch.as_tensor(value, device=device).float()
                          for value in found.values()])
    all_reduce(values, 'mean')
    return {name: value for name, value in zip(found, values.tolist(), strict=True)
            if math.isfinite(value)}


def _rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate of each group, if there are several."""
    groups = optimizer.param_groups
    return {f'lr_group{i}': float(group['lr']) for i, group in enumerate(groups)
            if len(groups) > 1}


def _logged(runner: Runner) -> dict[str, float]:
    """What the line of the log holds by now."""
    scalars = runner.message_hub.log_scalars
    found = {name.removeprefix('train/'): float(values.current())
             for name, values in scalars.items() if name.startswith('train/')}
    if found.get('time'):
        found['waiting'] = found['data_time'] / found['time']
    return found


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weights that are trained, without biases and scales."""
    return [p for group in optimizer.param_groups for p in group['params']
            if p.requires_grad and p.dim() > 1]


def _length(tensors: list[Tensor]) -> Tensor:
    """The Euclidean length of all of them together."""
    return torch.stack(torch._foreach_norm(tensors)).float().norm()
