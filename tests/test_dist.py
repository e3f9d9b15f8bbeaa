"""Two gloo processes with half the batch each against one process with the whole batch."""
from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed, nn

from densessl.dist import (
    SyncBatchNorm,
    check_launcher,
    gather,
    launched_rank,
    synchronize_batch_norm,
)
from densessl.errors import UsageError
from densessl.method import View
from densessl.plugins import load_plugins
from densessl.registry import METHODS
from densessl_plugins.detcon import detcon_nce
from densessl_plugins.simclr import nt_xent

WORLD = 2


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def _entry(rank, port, function, results):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', rank=rank, world_size=WORLD)
    results[rank] = function(rank)
    distributed.destroy_process_group()


def on_two_processes(function):
    """Run ``function(rank)`` on two gloo processes; return what they return, by rank."""
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_entry, args=(free_port(), function, results), nprocs=WORLD)
        return [results[rank] for rank in range(WORLD)]


def half(tensor, rank):
    return tensor.chunk(WORLD)[rank]


def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(8, 5, 4, 4, generator=g, dtype=torch.float64)
    ids = torch.randint(0, 3, (2, 8, 4), generator=g)
    return x, ids


def gathered_loss(rank):
    x = half(data()[0], rank).flatten(1).requires_grad_()
    everything = gather(x)                                   # (8, 80) on both
    loss = (everything.pow(2).sum(1) * torch.arange(8)).sum() * (rank + 1)
    loss.backward()
    return everything.detach().clone(), x.grad


def test_gather_carries_the_gradient_of_every_rank():
    x = data()[0].flatten(1).requires_grad_()
    ((x.pow(2).sum(1) * torch.arange(8)).sum() * (1 + 2)).backward()
    parts = on_two_processes(gathered_loss)
    for rank, (everything, grad) in enumerate(parts):
        assert torch.equal(everything, x.detach())
        torch.testing.assert_close(grad, half(x.grad, rank))


def normalize(rank, x=None):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5).double()
    with torch.no_grad():
        norm.weight.copy_(torch.rand(5))
    norm = synchronize_batch_norm(norm, 'cpu') if rank is not None else norm
    x = (data()[0] if rank is None else half(data()[0], rank)).clone().requires_grad_()
    out = norm(x)
    (out * torch.linspace(0, 1, 80).view(5, 4, 4)).pow(2).sum().backward()
    return (out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean,
            norm.running_var)


def test_synchronized_batch_norm_equals_the_whole_batch():
    whole, parts = normalize(None), on_two_processes(normalize)
    for rank, part in enumerate(parts):
        for i in (0, 1):
            torch.testing.assert_close(part[i], half(whole[i], rank))
        for i in (4, 5):
            torch.testing.assert_close(part[i], whole[i])
    for i in (2, 3):   # what DDP sums
        torch.testing.assert_close(parts[0][i] + parts[1][i], whole[i])


def test_conversion_keeps_parameters_statistics_and_flags():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm1d(4)))
    model[1].running_mean.fill_(2.0)
    model[1].weight.requires_grad_(False)
    model.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    converted = synchronize_batch_norm(model, 'cpu')
    assert isinstance(converted[1], SyncBatchNorm) and isinstance(converted[2][0], SyncBatchNorm)
    assert not converted[1].training and not converted[1].weight.requires_grad
    assert all(torch.equal(state[key], value) for key, value in converted.state_dict().items())


def contrast(rank):
    x, ids = data()
    take = (lambda t: t) if rank is None else (lambda t: half(t, rank))
    views = [take(x.flatten(1)[:, 20 * i:20 * i + 20].reshape(8, 4, 5)).clone().requires_grad_()
             for i in range(4)]
    loss = detcon_nce(*views, take(ids[0]), take(ids[1]))
    loss.backward()
    return loss.detach(), views[0].grad, views[1].grad


def test_detcon_loss_equals_the_whole_batch():
    """Each process's mean over its half; their mean, and the gradients that DDP averages, are
    those of the whole batch."""
    whole, parts = contrast(None), on_two_processes(contrast)
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, whole[0])
    for i in (1, 2):
        joined = torch.cat([part[i] for part in parts]) / WORLD
        torch.testing.assert_close(joined, whole[i])


def detcon_step(rank):
    """Loss and gradients of a whole DetCon model in double precision, through DDP."""
    load_plugins()
    torch.manual_seed(0)
    model = METHODS.build(dict(type='detcon', backbone=dict(type='torchvision.resnet18'),
                               num_regions=4, projection=(16, 8))).double()
    model.init_weights()
    g = torch.Generator().manual_seed(1)
    take = (lambda t: t) if rank is None else (lambda t: half(t, rank))
    views = [View(image=take(torch.randn(4, 3, 64, 64, generator=g, dtype=torch.float64)),
                  mask=take(torch.randint(0, 4, (4, 64, 64), generator=g)),
                  uniforms=take(torch.rand(4, 8, generator=g))) for _ in range(2)]
    if rank is not None:
        model = nn.parallel.DistributedDataParallel(synchronize_batch_norm(model, 'cpu'),
                                                    broadcast_buffers=False)
    loss = model(views)['loss']
    loss.backward()
    model.module.after_step(0, 10) if rank is not None else model.after_step(0, 10)
    names = {name.removeprefix('module.'): p for name, p in model.named_parameters()}
    return loss.detach(), {name: p.grad for name, p in names.items() if p.grad is not None}


def test_detcon_step_equals_the_whole_batch():
    (whole, gradients), parts = detcon_step(None), on_two_processes(detcon_step)
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, whole)
    assert len(gradients) == 60 + 2 * 5   # backbone; two linears (one bias) and a norm in each head
    for _, part in parts:
        assert part.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(part[name], gradient, atol=1e-9, rtol=1e-6, msg=name)


def contrast_images(rank):
    x = data()[0].flatten(1)
    take = (lambda t: t) if rank is None else (lambda t: half(t, rank))
    z1, z2 = (take(z).clone().requires_grad_() for z in x.chunk(2, 1))
    loss = nt_xent(z1, z2, 0.5)
    loss.backward()
    return loss.detach(), z1.grad, z2.grad


def test_nt_xent_equals_the_whole_batch():
    whole, parts = contrast_images(None), on_two_processes(contrast_images)
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, whole[0])
    for i in (1, 2):
        torch.testing.assert_close(torch.cat([part[i] for part in parts]) / WORLD, whole[i])


def moco_steps(rank):
    """Two steps; one process normalizes in two groups, as two processes do by themselves."""
    load_plugins()
    torch.manual_seed(0)
    model = METHODS.build(dict(type='moco', backbone=dict(type='torchvision.resnet18'), queue=12,
                               projection=8, bn_groups=2 if rank is None else 1)).double()
    model.init_weights()
    g = torch.Generator().manual_seed(1)
    wrapped = model if rank is None else nn.parallel.DistributedDataParallel(
        model, broadcast_buffers=False)
    losses = []
    for step in range(2):
        images = [torch.randn(8, 3, 64, 64, generator=g, dtype=torch.float64) for _ in range(2)]
        torch.manual_seed(step)   # the runner seeds every process alike from (seed, step)
        model.zero_grad()
        loss = wrapped([View(image=x if rank is None else half(x, rank)) for x in images])['loss']
        loss.backward()
        model.after_step(step, 2)
        losses.append(loss.detach())
    return losses, model.queue.clone(), {n: p.grad for n, p in model.named_parameters()
                                         if p.grad is not None}


def test_moco_equals_the_whole_batch_in_the_same_groups():
    (losses, queue, gradients), parts = moco_steps(None), on_two_processes(moco_steps)
    for step in range(2):
        torch.testing.assert_close(sum(part[0][step] for part in parts) / 2, losses[step])
    for _, other, part in parts:
        torch.testing.assert_close(other, queue)
        for name, gradient in gradients.items():
            torch.testing.assert_close(part[name], gradient, atol=1e-9, rtol=1e-6, msg=name)


def gathered_images(rank):
    images = torch.arange(48.).view(2, 3, 2, 4).contiguous(memory_format=torch.channels_last)
    return images if rank is None else gather(images + 100 * rank)


def test_gather_keeps_the_order_of_channels_last_images():
    whole = gathered_images(None)
    for part in on_two_processes(gathered_images):
        assert torch.equal(part, torch.cat([whole, whole + 100]))


@pytest.mark.parametrize('shape', [(3,), (2, 3, 4)])
def test_alone_it_is_the_ordinary_batch_norm(shape):
    x = torch.randn(4, *shape)
    plain = nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0])
    torch.testing.assert_close(synchronize_batch_norm(nn.Sequential(plain), 'cpu')[0](x),
                               type(plain)(shape[0])(x))


def test_processes_without_a_launcher_are_not_each_the_whole_run(monkeypatch, capsys):
    for name in ('WORLD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'SLURM_STEP_NUM_TASKS', 'RANK'):
        monkeypatch.delenv(name, raising=False)
    check_launcher('none', 'train')
    with pytest.raises(UsageError, match=r'needs torchrun: .*tools/finetune\.py'):
        check_launcher('pytorch', 'finetune')
    for name, launcher in (('WORLD_SIZE', 'pytorch'), ('OMPI_COMM_WORLD_SIZE', 'mpi')):
        for value in ('1', '', 'many'):
            monkeypatch.setenv(name, value)
            check_launcher('none', 'train')
        monkeypatch.setenv(name, '2')
        with pytest.raises(UsageError, match=f'{name} is 2: .*add --launcher {launcher}'):
            check_launcher('none', 'train')
        monkeypatch.setenv('RANK', '1')
        check_launcher(launcher, 'train')
        monkeypatch.delenv(name)
    monkeypatch.setenv('SLURM_NTASKS', '8')             # of the allocation: says nothing of a run
    check_launcher('none', 'train')
    assert capsys.readouterr().err == ''
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '8')     # may be a sweep
    check_launcher('none', 'train')
    assert 'this Slurm step has 8 tasks' in capsys.readouterr().err
    monkeypatch.setenv('SLURM_PROCID', '3')
    check_launcher('none', 'train')
    assert capsys.readouterr().err == '' and launched_rank('slurm') == 3
    assert launched_rank('none') == 0 and launched_rank('pytorch') == 1
