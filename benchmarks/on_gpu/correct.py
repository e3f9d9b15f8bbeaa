"""Correct: the tests marked ``gpu``, loss curves in other precisions, several processes."""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook

from densessl.config import load_config
from densessl.engine.checkpoint_file import read_checkpoint
from on_gpu.models import make_batch, make_runner, quietly
from on_gpu.record import Row
from on_gpu.setting import Setting

ROOT = Path(__file__).parents[2]
PRECISIONS: dict[str, dict[str, Any]] = {
    'float32 again': {},
    'bfloat16': {'optim_wrapper.type': 'BFloat16OptimWrapper'},
    'float16': {'optim_wrapper.type': 'AmpOptimWrapper'},
}
COMPILED: dict[str, dict[str, Any]] = {'compile': {'compile': True}}
FIRST, LATER = 0.01, 0.05       # bands of the first loss and of the last third's mean, relative
APART = 0.05                    # of the ways of weights, relative: one process or several
BATCH, STEPS = 16, 4            # of those runs
QUICK = 'not float64 and not detcon_s and not rotation'     # of the tests, in a small check


def tests(setting: Setting) -> list[Row]:
    """Run ``pytest -m gpu`` in a process of its own."""
    report = setting.out / 'gpu_tests.xml'
    chosen = ['-k', QUICK] if setting.small else []
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-m', 'gpu', '-q', '-p', 'no:cacheprovider',
         f'--junitxml={report}', *chosen, str(ROOT / 'tests' / 'gpu')], cwd=ROOT,
        env={**os.environ, 'DENSESSL_GPU_TESTS': setting.device}, capture_output=True, text=True)
    (setting.out / 'gpu_tests.txt').write_text(done.stdout + done.stderr)
    if not report.is_file():
        raise RuntimeError(f'pytest wrote no report: {(done.stdout + done.stderr)[-1500:]}')
    rows, passed, skipped = [], 0, []
    for case in ET.parse(report).iter('testcase'):
        wrong = [child for child in case if child.tag in ('failure', 'error')]
        if wrong:
            said = (wrong[0].get('message') or '').splitlines() or ['']
            rows.append(Row(f'test {case.get("name")}', f'failed: {" ".join(said)[:300]}',
                            'passes', False))
        elif case.find('skipped') is not None:
            skipped.append(case.get('name'))
        else:
            passed += 1
    left_out = f', {len(skipped)} skipped' if skipped else ''
    return [Row('tests marked gpu: CPU against GPU in float32 without TF32',
                f'{passed} of {passed + len(rows)} pass{left_out}', 'all', not rows), *rows]


class Losses(Hook):
    """The loss of every iteration, on the device until it is asked for."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        self.kept.append(outputs['loss'].detach().float())

    def curve(self) -> list[float]:
        return torch.stack(self.kept).tolist()


def curve(setting: Setting, options: dict[str, Any]) -> list[float]:
    """Losses of DetCon-B on ResNet-18, from the same weights on the same batches."""
    size, steps, batches, side = (4, 6, 2, 64) if setting.small else (64, 90, 8, 128)
    cfg = load_config('small/detcon_r18', {
        'views.0.size': side, 'views.1.size': side, 'train_dataloader.num_workers': 0,
        'visualizer': None, 'schedule.warmup_epochs': 0, 'schedule.base_lr': 0.01, **options})
    made = [make_batch(cfg, size, seed=seed, pinned=setting.on_gpu) for seed in range(batches)]
    runner = make_runner(cfg, 'small/detcon_r18', made, steps, setting.work('curves'))
    losses = Losses()
    runner.register_hook(losses)
    setting.release()
    quietly(runner.train)
    return losses.curve()


def precisions(setting: Setting, choices: dict[str, dict[str, Any]]) -> list[Row]:
    """Loss curves of other precisions beside float32's."""
    plain, rows = curve(setting, {}), []
    rows.append(Row('loss of DetCon-B on ResNet-18, float32: first, last third',
                    f'{plain[0]:.4f}, {late(plain):.4f}'))
    for name, options in choices.items():
        if name == 'float16' and not setting.on_gpu:
            rows.append(Row(f'… {name}', 'needs a GPU'))
            continue
        if name == 'compile' and setting.small:
            options = {'compile': {'backend': 'eager'}}         # needs no compiler
        other = curve(setting, options)
        first = abs(other[0] - plain[0]) / abs(plain[0])
        later = abs(late(other) - late(plain)) / abs(late(plain))
        rows.append(Row(f'… {name}: differs in the first loss by, in the last third by',
                        f'{first:.2%}, {later:.2%}', f'≤ {FIRST:.0%}, ≤ {LATER:.0%}',
                        first <= FIRST and later <= LATER))
    return rows


def late(losses: list[float]) -> float:
    """The mean of the last third."""
    last = losses[-(len(losses) // 3):]
    return sum(last) / len(last)


def processes(setting: Setting) -> list[Row]:
    """A run by torchrun, a process for each of at most two cards, beside one without it."""
    count = min(2, torch.cuda.device_count()) if setting.on_gpu else 2
    backend = 'NCCL' if setting.on_gpu else 'gloo'
    folder = setting.work('processes')
    shutil.rmtree(folder)
    write_noise(folder / 'images', STEPS * BATCH)
    torchrun = ['-m', 'torch.distributed.run', '--nnodes', '1', '--nproc_per_node', str(count),
                '--master_addr', '127.0.0.1', '--master_port', str(free_port())]
    moved = []
    for name, launch, arguments in (('one', [], ()), ('launched', torchrun,
                                                      ('--launcher', 'pytorch'))):
        done = train(setting, launch, folder / 'images', folder / name, *arguments)
        if done.returncode:
            raise RuntimeError(f'{name}: exit code {done.returncode}: '
                               f'{(done.stdout + done.stderr)[-1500:]}')
        moved.append(way(folder / name))
    apart = float((moved[0] - moved[1]).norm() / moved[0].norm())
    return [Row(f'{backend}, {count} processes by torchrun: the way of the weights in {STEPS - 1} '
                f'steps differs from that of a plain run by', f'{apart:.1e}', f'≤ {APART:.0e}',
                apart <= APART)]


def write_noise(folder: Path, count: int) -> None:
    """Images in which no two neighbors are the same. (In flat ones rounding decides which of equals
    is the largest, and where its gradient goes.)"""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pattern = np.kron(rng.integers(0, 192, (6, 6, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
        noisy = pattern + rng.integers(0, 64, pattern.shape, np.uint8)
        cv2.imwrite(str(folder / f'{i}.png'), noisy)


def train(setting: Setting, launch: list[str], data: Path, folder: Path, *arguments: str
          ) -> subprocess.CompletedProcess:
    """A few steps of SimCLR on ResNet-18, by the command."""
    side = 64 if setting.small else 96
    return subprocess.run(
        [sys.executable, *launch, str(ROOT / 'tools' / 'train.py'), 'small/simclr_r18', '--data',
         str(data), '--work-dir', str(folder), '--epochs', '1', *arguments, '--cfg-options',
         f'views.0.size={side}', f'views.1.size={side}', f'global_batch={BATCH}', 'sync_bn=True',
         'train_dataloader.num_workers=0', 'schedule.warmup_epochs=0', 'schedule.base_lr=0.001',
         f'checkpoint.every_epochs={1 / STEPS}', f'checkpoint.keep={STEPS}'],
        capture_output=True, text=True)


def way(folder: Path) -> torch.Tensor:
    """The weights after the last step less those after the first, in one vector."""
    first, last = (read_checkpoint(folder / f'iter_{step}.pth')['state_dict']
                   for step in (1, STEPS))
    return torch.cat([(last[key] - first[key]).double().flatten() for key in first
                      if key.endswith(('.weight', '.bias'))])


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]
