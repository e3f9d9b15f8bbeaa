"""Training steps on a GPU: nobody waits for it between two lines of the log, and batches that are
copied on a stream of their own arrive as they were."""
from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import distributed

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.dist import _OfEqualBatches
from densessl.training.backends import Backends
from densessl.training.find_batch import find_batch
from densessl.training.memory import GIB
from densessl.training.prefetch import DeviceBatches
from densessl.training.recomputing import recompute_blocks
from densessl.views import photometry_draw as draw
from densessl.views.photometry import ViewPreprocessor

pytestmark = [pytest.mark.gpu,
              pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]
PHOTOMETRY = dict(
    jitter=dict(p=0.9, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), gray=0.3,
    blur=dict(p=0.5, sigma=(0.1, 2.0)), solarize=dict(p=0.5))
SMALL = ['views.0.size=64', 'views.1.size=64', 'train_dataloader.batch_size=4',
         'train_dataloader.num_workers=2']


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=12, train=2, val=2,
                        size=(80, 80)) / 'unlabelled'


@pytest.fixture
def surroundings(tmp_path_factory, monkeypatch, tmp_path):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    monkeypatch.chdir(tmp_path)


@HOOKS.register_module(force=True)
class RefuseSyncs(Hook):
    """Makes every wait for the device an error in the iterations that write no line. (The first
    sets things up.)

    Args:
        interval: iterations between two lines.
        cause: wait in every iteration, to see that it is refused.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int, cause: bool = False) -> None:
        self.interval, self.cause = interval, cause

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        quiet = runner.iter > 0 and not self.every_n_train_iters(runner, self.interval)
        torch.cuda.set_sync_debug_mode('error' if quiet else 'default')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.cause:
            float(outputs['loss'])


@pytest.fixture
def usual_mode():
    yield
    torch.cuda.set_sync_debug_mode('default')


def train(scenes, twin, *options, cause=False):
    hook = [{'type': 'RefuseSyncs', 'interval': 6, 'cause': cause}]
    return main(['train', f'demo/{twin}', '--data', str(scenes), '--work-dir', 'run', '--epochs',
                 '4', '--cfg-options', *SMALL, 'log_interval=6', f'custom_hooks={hook}', *options])


@pytest.mark.usefixtures('surroundings', 'usual_mode')
@pytest.mark.parametrize('twin, options', [
    ('detcon_r18', []),
    ('detcon_r18', ['optim_wrapper.type=BFloat16OptimWrapper', 'optim_wrapper.optimizer='
                    '{"type": "LARS", "momentum": 0.9, "weight_decay": 1e-6}']),
    ('byol_r18', ['optim_wrapper.clip_grad.max_norm=5']),
    ('moco_r18', ['optim_wrapper.type=BFloat16OptimWrapper']),
    ('simclr_r18', ['optim_wrapper.accumulative_counts=2', 'deterministic=True']),
    ('simclr_r18', ['gradient_checkpointing=True']),
])
def test_no_iteration_between_two_lines_waits(twin, options, scenes):
    more = ['--allow-smaller-negatives'] if 'accumulative' in ''.join(options) else []
    assert train(scenes, twin, *options, *more) == 0
    lines = [json.loads(line) for line in next(Path('run').glob(
        '*/vis_data/scalars.json')).read_text().splitlines()]
    assert len(lines) == 2 and all(np.isfinite(line['loss']) for line in lines)


@pytest.mark.usefixtures('surroundings', 'usual_mode')
def test_a_wait_is_noticed(scenes):
    with pytest.raises(RuntimeError, match='synchronizing'):
        train(scenes, 'moco_r18', cause=True)


def test_batches_arrive_as_they_were():
    """Each is multiplied by a busy device after the next has been copied: memory that is given
    away too early would show."""
    device = torch.device('cuda')
    made = [{'image': [torch.randint(0, 256, (64, 224, 224, 3), dtype=torch.uint8).pin_memory()
                       for _ in range(2)],
             'photometric': [torch.rand(64, len(draw.PARAMETERS)) for _ in range(2)],
             'regions': i} for i in range(8)]
    left = iter(made)
    batches = DeviceBatches(lambda: next(left), device, len(made))
    busy = torch.randn(4096, 4096, device=device)
    sums = []
    for expected in made:
        batch = batches.next()
        for _ in range(20):
            busy = busy @ busy / 64
        assert batch['regions'] == expected['regions']
        assert all(not rows.is_cuda for rows in batch['photometric'])
        sums.append([view.long().sum((1, 2, 3)) for view in batch['image']])
        del batch
    assert next(left, None) is None
    for expected, got in zip(made, sums, strict=True):
        for view, total in zip(expected['image'], got, strict=True):
            assert torch.equal(view.long().sum((1, 2, 3)), total.cpu())


@pytest.mark.parametrize('style', draw.STYLES)
def test_photometry_is_that_of_the_cpu(style):
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (32, 96, 80, 3), np.uint8))
    rows = torch.from_numpy(np.stack([draw.parameters(rng, style=style, **PHOTOMETRY)
                                      for _ in range(32)]))
    host = ViewPreprocessor()
    device = ViewPreprocessor().to('cuda')
    expected, got = host.photometry(image, rows), device.photometry(image.cuda(), rows)
    assert got.is_contiguous(memory_format=torch.channels_last)
    # 5e-4 of the range of [0, 1], over the smallest deviation; hue turns where two channels are
    # nearly equal, so a thousandth of the pixels may differ by more
    far = (expected - got.cpu()).abs() > 5e-4 / 0.224
    assert far.float().mean() < 1e-3


@pytest.fixture
def one_rank(tmp_path):
    distributed.init_process_group('nccl', init_method=f'file://{tmp_path}/store', rank=0,
                                   world_size=1)
    yield distributed.group.WORLD
    distributed.destroy_process_group()


def test_synchronized_batch_norm_is_batch_norm(one_rank):
    torch.manual_seed(0)
    x = torch.randn(8, 16, 9, 7, device='cuda').to(memory_format=torch.channels_last)
    gradient = torch.randn_like(x)
    weight, bias = torch.rand(16, device='cuda') + 0.5, torch.randn(16, device='cuda')
    results = []
    for synchronized in (False, True):
        inputs = [value.clone().requires_grad_() for value in (x, weight, bias)]
        statistics = [torch.zeros(16, device='cuda'), torch.ones(16, device='cuda')]
        torch.cuda.set_sync_debug_mode('error' if synchronized else 'default')
        out = (_OfEqualBatches.apply(*inputs, *statistics, 1e-5, 0.1, one_rank, 1) if synchronized
               else F.batch_norm(inputs[0], *statistics, *inputs[1:], True, 0.1, 1e-5))
        out.backward(gradient)
        torch.cuda.set_sync_debug_mode('default')
        results.append([out.detach(), *statistics, *(one.grad for one in inputs)])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(two, one, atol=1e-4, rtol=1e-4)


def test_two_ranks_normalize_by_both_batches(monkeypatch):
    """What the other rank would send is put in its place."""
    torch.manual_seed(0)
    x = torch.randn(8, 16, 9, 7, device='cuda')
    mine, other = x[:4], x[4:]

    def all_gather(parts, local, group):
        parts[0].copy_(local)
        parts[1].copy_(torch.cat(torch.batch_norm_stats(other, 1e-5)))
    monkeypatch.setattr('densessl.dist.dist.all_gather', all_gather)
    expected_statistics, statistics = ([torch.zeros(16, device='cuda'),
                                        torch.ones(16, device='cuda')] for _ in range(2))
    expected = F.batch_norm(x, *expected_statistics, None, None, True, 0.1, 1e-5)[:4]
    got = _OfEqualBatches.apply(mine, None, None, *statistics, 1e-5, 0.1, None, 2)
    for one, two in zip([expected, *expected_statistics], [got, *statistics], strict=True):
        torch.testing.assert_close(two, one, atol=1e-4, rtol=1e-4)


def test_recomputing_takes_less_memory_for_the_same_gradients():
    torch.manual_seed(0)
    plain = build_backbone(dict(type='torchvision.resnet50')).cuda().train()
    again = copy.deepcopy(plain)
    recompute_blocks(again)
    image = torch.randn(32, 3, 224, 224, device='cuda')
    peaks, settings = [], Backends(tf32=False, deterministic=True)
    for network in (plain, again):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with settings.applied():
            sum(one.square().mean() for one in network(image)).backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.5 * peaks[0], peaks
    for (key, one), two in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=1e-6, rtol=1e-4, msg=key)
    for (key, one), two in zip(plain.state_dict().items(), again.state_dict().values(),
                               strict=True):
        torch.testing.assert_close(two, one, atol=1e-6, rtol=1e-5, msg=key)


@pytest.mark.usefixtures('surroundings')
def test_the_largest_batch_fits_and_the_next_does_not(tmp_path, capsys):
    options = {'views.0.size': 96, 'views.1.size': 96}
    found = find_batch('small/detcon_r18', options=options, memory_limit=3)
    assert found.batch >= 8 and found.peak <= 3 * GIB and found.images_per_s > 0
    assert 'do not fit' in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    # the limit is gone, and so is what was held
    assert torch.cuda.memory_allocated() < GIB
    torch.empty(4 * GIB, dtype=torch.uint8, device='cuda')
