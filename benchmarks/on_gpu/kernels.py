"""The DetCon loss at the published size, beside the released formulation; updates of weights."""
from __future__ import annotations

import statistics
from typing import Any

import torch
from detcon_loss import REGIONS, WIDTH, blockwise, released
from torch import Tensor, nn

from densessl.backbones import build_backbone
from densessl.ema import ema_update, target_of
from densessl.planning.optimizers import LARS
from on_gpu.record import Row
from on_gpu.setting import GIB, Setting

IMAGES, GATHERED = 128, 4096     # of a process, of all: the published batch
CLOSE = 1e-4                     # relative, of the loss and of its gradient


def detcon_loss(setting: Setting) -> list[Row]:
    """One process's share of the published batch, and the whole batch in one process."""
    shares = [(4, 8)] if setting.small else [(IMAGES, GATHERED), (GATHERED, GATHERED)]
    rows = []
    for images, gathered in shares:
        name = f'DetCon loss, {images} × {REGIONS} regions against {gathered} × {REGIONS}'
        ours = one(setting, blockwise, images, gathered)
        theirs = one(setting, released, images, gathered)
        rows.append(Row(f'{name}: blockwise', told(setting, ours)))
        rows.append(Row(f'{name}: released form', told(setting, theirs)))
        if theirs is not None:
            apart = max(abs(ours[key] - theirs[key]) / abs(theirs[key])
                        for key in ('loss', 'gradient'))
            rows.append(Row(f'{name}: loss and gradient differ by', f'{apart:.1e}',
                            f'≤ {CLOSE:.0e}', apart <= CLOSE))
    return rows


def one(setting: Setting, form: Any, images: int, gathered: int) -> dict[str, float] | None:
    """Time, memory and results of one form, forward and backward; None if it does not fit."""
    g = torch.Generator().manual_seed(0)

    def drawn(count: int) -> Tensor:
        return torch.randn(count, REGIONS, WIDTH, generator=g).to(setting.device)
    predictions = [drawn(images).requires_grad_() for _ in range(2)]
    targets = [drawn(gathered) for _ in range(2)]
    ids = [torch.randint(0, 8, (images, REGIONS), generator=g).to(setting.device)
           for _ in range(2)]

    def run() -> Tensor:
        for prediction in predictions:
            prediction.grad = None
        loss = form(*predictions, *targets, *ids)
        loss.backward()
        return loss.detach()
    setting.release()
    before = torch.cuda.memory_allocated() if setting.on_gpu else 0
    try:
        loss = run().item()
        peak = setting.peak() - before
        seconds = setting.seconds(run, runs=1 if setting.small else 3, warmup=0)
    except torch.cuda.OutOfMemoryError:
        return None
    return {'loss': loss, 'seconds': seconds, 'bytes': peak,
            'gradient': predictions[0].grad.double().norm().item()}


def told(setting: Setting, found: dict[str, float] | None) -> str:
    if found is None:
        return 'does not fit into the memory'
    memory = f', {found["bytes"] / GIB:.2f} GiB' if setting.on_gpu else ''
    return f'{found["seconds"] * 1e3:.1f} ms{memory}'


def updates(setting: Setting) -> list[Row]:
    """What an update of all parameters of ResNet-50 takes, beside the backward pass."""
    name = 'torchvision.resnet18' if setting.small else 'torchvision.resnet50'
    model = build_backbone(dict(type=name)).to(setting.device)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    target, weights = target_of(model), list(model.parameters())
    contenders = {
        'EMA': lambda: ema_update(target, model, 0.99),
        'EMA, one parameter after the other': lambda: one_by_one(target, model, 0.99),
        'LARS': LARS(weights, lr=1e-4).step,
        'SGD, fused': torch.optim.SGD(weights, lr=1e-4, momentum=0.9, fused=True).step}
    runs = 3 if setting.small else 20
    times = {key: statistics.median(setting.seconds(update, runs=runs) for _ in range(3))
             for key, update in contenders.items()}
    return [Row(f'update of {name}: {key}', f'{seconds * 1e3:.2f} ms')
            for key, seconds in times.items()]


@torch.no_grad()
def one_by_one(target: nn.Module, online: nn.Module, tau: float) -> None:
    """The update of most implementations: several kernels for each parameter."""
    for xi, theta in zip(target.parameters(), online.parameters(), strict=True):
        xi.data = tau * xi.data + (1 - tau) * theta.data
