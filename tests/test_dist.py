"""What processes share, and losses: two gloo processes with half the batch each against one with
the whole batch. Whole methods: test_two_processes.py."""
from __future__ import annotations

import time
from datetime import timedelta

import pytest
import torch
from gloo import WORLD, half, on_two_processes
from torch import distributed, nn

from densessl.backbones import build_backbone
from densessl.dist import (
    DeviceSyncBatchNorm,
    SyncBatchNorm,
    check_launcher,
    gather,
    launched_rank,
    synchronize_batch_norm,
    while_first_works,
)
from densessl.errors import UsageError
from densessl_plugins.detcon import detcon_nce
from densessl_plugins.simclr import nt_xent


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


@pytest.mark.parametrize('device, kind', [('cpu', SyncBatchNorm), ('cuda', DeviceSyncBatchNorm)])
def test_conversion_keeps_parameters_statistics_and_flags(device, kind):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm1d(4)))
    model[1].running_mean.fill_(2.0)
    model[1].weight.requires_grad_(False)
    model.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    converted = synchronize_batch_norm(model, device)
    assert type(converted[1]) is kind and type(converted[2][0]) is kind
    assert not converted[1].training and not converted[1].weight.requires_grad
    assert all(torch.equal(state[key], value) for key, value in converted.state_dict().items())


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_conversion_keeps_the_activations_that_norms_hold(device):
    network = build_backbone(dict(type='timm.efficientnet_b0')).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        for map_, same in zip(synchronize_batch_norm(network, device)(image), before, strict=True):
            torch.testing.assert_close(map_, same)


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


def gathered_images(rank):
    images = torch.arange(48.).view(2, 3, 2, 4).contiguous(memory_format=torch.channels_last)
    return images if rank is None else gather(images + 100 * rank)


def test_gather_keeps_the_order_of_channels_last_images():
    whole = gathered_images(None)
    for part in on_two_processes(gathered_images):
        assert torch.equal(part, torch.cat([whole, whole + 100]))


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('shape', [(3,), (2, 3, 4)])
def test_alone_it_is_the_ordinary_batch_norm(shape, device):
    x = torch.randn(4, *shape)
    plain = nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0])
    torch.testing.assert_close(synchronize_batch_norm(nn.Sequential(plain), device)[0](x),
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


def _first_takes_long(rank):
    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=1))     # instead of half an hour
    begun = time.monotonic()
    with while_first_works():
        time.sleep(0 if rank else 3)
    return time.monotonic() - begun


def test_the_others_wait_longer_than_for_a_step():
    assert all(waited >= 3 for waited in on_two_processes(_first_takes_long))
