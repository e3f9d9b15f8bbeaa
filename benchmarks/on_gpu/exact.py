"""Exact: a run that was killed and resumed has the bits of one that nobody disturbed."""
from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from densessl.demo.sample import write_scenes
from densessl.engine.checkpoint_file import newest_checkpoint, read_checkpoint
from on_gpu.correct import ROOT
from on_gpu.record import Row
from on_gpu.setting import Setting

PATIENCE = 200      # seconds until a run must have ended

OPTIONS = {'float32': 'optim_wrapper.type=OptimWrapper',
           'bfloat16': 'optim_wrapper.type=BFloat16OptimWrapper'}


def killed_and_resumed(setting: Setting, options: dict[str, str]) -> list[Row]:
    """Kill a run of DetCon-B with ``deterministic=True`` after a checkpoint, resume it, compare."""
    folder = setting.work('exact')
    shutil.rmtree(folder)
    scenes = write_scenes(folder / 'scenes', unlabelled=16 if setting.small else 128, train=1,
                          val=1, size=(96, 96) if setting.small else (160, 160)) / 'unlabelled'
    rows = []
    if setting.small:
        options = {name: options[name] for name in list(options)[:1]}
    for name, option in options.items():
        undisturbed, killed = folder / name / 'undisturbed', folder / name / 'killed'
        undisturbed.parent.mkdir()
        finish(command(setting, scenes, undisturbed, option))
        last = newest_checkpoint(undisturbed)
        kill_after_checkpoint(command(setting, scenes, killed, option), killed)
        between = newest_checkpoint(killed)
        if between.name == last.name:
            raise RuntimeError('the run had ended before it was killed')
        finish([*command(setting, scenes, killed, option), '--resume'])
        parts = differing(read_checkpoint(last), read_checkpoint(killed / last.name))
        told = 'the same bits' if not parts else (f'{len(parts)} tensors differ: '
                                                  f'{", ".join(parts[:5])}')
        rows.append(Row(f'DetCon-B, ResNet-18, LARS, {name}, deterministic: killed after '
                        f'{between.stem}, resumed to {last.stem}', told, 'the same bits',
                        not parts))
    return rows


def command(setting: Setting, data: Path, folder: Path, option: str) -> list[str]:
    """A run of the published config on a smaller network, of views as small."""
    side, batch, epochs = (64, 4, 2) if setting.small else (128, 32, 12)
    return [sys.executable, str(ROOT / 'tools' / 'train.py'), 'detcon_r50', '--data', str(data),
            '--work-dir', str(folder), '--epochs', str(epochs), '--cfg-options',
            f'views.0.size={side}', f'views.1.size={side}', f'global_batch={batch}',
            'train_dataloader.num_workers=2', 'model.backbone.type=torchvision.resnet18',
            'model.projection=[512,128]', 'deterministic=True', 'checkpoint.every_epochs=0.5',
            option]


def finish(arguments: list[str]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True,
                          timeout=PATIENCE)
    if done.returncode:
        raise RuntimeError(f'exit code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}')


def kill_after_checkpoint(arguments: list[str], folder: Path) -> None:
    """Start a run and kill it, without warning, as soon as its first checkpoint is there."""
    log = folder.with_suffix('.log')
    with log.open('w') as file:
        run = subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT)
    since = time.monotonic()
    try:
        while not list(folder.glob('iter_*.pth')):
            if run.poll() is not None or time.monotonic() - since > PATIENCE:
                raise RuntimeError(f'no checkpoint to kill the run after: '
                                   f'{log.read_text()[-1500:]}')
            time.sleep(0.02)
    finally:
        run.kill()
        run.wait()


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of tensors, of the model and of the optimizer, that are not the same."""
    found = [key for key, value in one['state_dict'].items()
             if not same(value, other['state_dict'][key])]
    for key, state in one['optimizer']['state'].items():
        found += [f'optimizer {key} {name}' for name, value in state.items()
                  if not same(value, other['optimizer']['state'][key][name])]
    return found


def same(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor):
        return one == other
    return torch.equal(one.cpu(), other.cpu())
