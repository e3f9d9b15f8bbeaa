"""Between two lines of the log the device is never waited for."""
from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from runs import TINY

from densessl.cli import main

pytestmark = pytest.mark.usefixtures('surroundings')
WAITING = ('item', 'tolist', 'cpu', '__bool__', '__float__', '__int__', '__index__')
counted: dict[int, Counter] = {}     # iteration → what was called in it


@HOOKS.register_module(force=True)
class CountSyncs(Hook):
    """Counts the calls of tensors that wait for a device, from an iteration's begin to the next's.

    Args:
        cause: cause one in every iteration, to see that it is counted.
    """

    priority = 'VERY_LOW'

    def __init__(self, cause: bool = False) -> None:
        self.cause = cause

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        counted[runner.iter] = Counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.cause:
            float(outputs['loss'])


@pytest.mark.parametrize('twin, more, cause', [
    ('detcon_r18', [], False),
    ('byol_r18', ['optim_wrapper.type=BFloat16OptimWrapper',
                  'optim_wrapper.clip_grad.max_norm=5'], False),
    ('moco_r18', [], True),     # once, to see that the check can fail
], ids=['detcon', 'byol, bfloat16, clipped', 'waiting'])
def test_no_iteration_between_two_lines_waits(twin, more, cause, scenes, tmp_path, monkeypatch):
    counted.clear()

    def counting(name):
        original = getattr(torch.Tensor, name)

        def call(self, *args, **kwargs):
            if counted:
                counted[max(counted)][name] += 1
            return original(self, *args, **kwargs)
        return call
    for name in WAITING:
        monkeypatch.setattr(torch.Tensor, name, counting(name))
    options = [one for one in TINY if one.startswith(('views.', 'train_dataloader.batch_size'))]
    assert main(['train', f'demo/{twin}', '--data', str(scenes), '--work-dir',
                 str(tmp_path / 'run'), '--epochs', '2', '--cfg-options', *options,
                 'log_interval=6', 'train_dataloader.num_workers=1', *more,
                 f'custom_hooks=[{{"type": "CountSyncs", "cause": {cause}}}]']) == 0
    assert sorted(counted) == list(range(6))
    # the first sets things up, the last but one may start what the line at the end reads
    between = sum((counted[i] for i in (1, 2, 3, 4)), Counter())
    assert (between == Counter()) != cause, between
    assert counted[5], 'the line at the end reads the losses'
    lines = [json.loads(line) for line in next((tmp_path / 'run').glob(
        '*/vis_data/scalars.json')).read_text().splitlines()]
    assert all((line.get('grad_norm', 0) > 0) == ('clip' in ''.join(more)) for line in lines)
