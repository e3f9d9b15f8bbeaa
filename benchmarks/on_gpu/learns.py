"""Learns: pretraining for some minutes, then the dense probe, beside random weights."""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from densessl.export.export import export_backbone
from densessl.images.find import find_images
from densessl.probes.frozen import RANDOM
from densessl.probes.probe import Probe, run_probe
from densessl.training.train import train
from on_gpu.jpegs import workers_of
from on_gpu.models import quietly
from on_gpu.record import Row
from on_gpu.setting import Setting

# For few images and few minutes: plain SGD, a target that moves, a queue shorter than the data.
# The published rates and momenta are for a thousand epochs of a million images.
SETTINGS: dict[str, dict[str, Any]] = {
    'DetCon-B': {
        'optim_wrapper.optimizer.type': 'SGD', 'optim_wrapper.optimizer.weight_decay': 1e-4,
        'schedule.base_lr': 0.1, 'model.tau_base': 0.99, 'model.target_init': 'copy',
        'model.projection': [1024, 256], 'views.0.area': [0.2, 1.0], 'views.1.area': [0.2, 1.0],
        'masks.scale': 300, 'masks.min_size': 200},
    'MoCo v2': {
        'schedule.base_lr': 0.1, 'schedule.by_epoch': False, 'model.queue': 1024,
        'model.momentum': 0.99},
}
CONFIGS = {'DetCon-B': 'detcon_r50', 'MoCo v2': 'moco_v2_r50'}
BATCH, PILOT = 128, 4       # images a step; epochs that tell how fast it goes
WARMUP = 0.05               # share of the run


def probe(setting: Setting, name: str, backbone: str) -> float:
    """The mIoU of the dense probe; that of random weights is measured once."""
    out = setting.out / f'probe_{name.split()[0].lower()}.json'
    if backbone == RANDOM and out.is_file():
        return json.loads(out.read_text())['results'][0]['scores']['mIoU']
    found = run_probe(
        Probe('dense', str(setting.probe), size=64 if setting.small else 224,
              workers=0 if setting.small else min(8, workers_of(setting))), [backbone],
        architecture=backbone_type(setting) if backbone == RANDOM else None,
        out=out, say=lambda text: None)
    return found['results'][0]['scores']['mIoU']


def backbone_type(setting: Setting) -> str:
    return f'torchvision.resnet{18 if setting.small else 50}'


def random(setting: Setting) -> list[Row]:
    """The dense probe of random weights."""
    return [Row(f'random weights: mIoU of the dense probe on {setting.probe.name}',
                f'{probe(setting, "random", RANDOM):.2f}')]


def pretrained(setting: Setting, method: str) -> list[Row]:
    """Pretrain, then probe, beside random weights on the same day."""
    images = len(find_images(setting.data))
    folder = setting.work(f'learns{time.time_ns()}')
    batch = 4 if setting.small else min(BATCH, images // 4)
    pilot = 1 if setting.small else PILOT
    pretrain(setting, method, folder / 'pilot', batch, pilot)
    rate = rates(folder / 'pilot')[-1]
    epochs = max(pilot, int(60 * setting.minutes * rate / images))
    start = time.perf_counter()
    checkpoint = pretrain(setting, method, folder / 'run', batch, epochs)
    minutes = (time.perf_counter() - start) / 60
    backbone = folder / 'backbone.pth'
    quietly(lambda: export_backbone(checkpoint, backbone))
    score, by_chance = probe(setting, method, str(backbone)), probe(setting, 'random', RANDOM)
    losses = scalars(folder / 'run', 'loss')
    name = f'{method}, {backbone_type(setting).partition(".")[2]}'
    return [Row(f'{name}: {epochs} epochs of {images} images, batch {batch}, bfloat16',
                f'{minutes:.1f} minutes, {rates(folder / "run")[-1]:.0f} images/s, loss '
                f'{losses[0]:.3f} → {losses[-1]:.3f}'),
            Row(f'{name}: mIoU of the dense probe on {setting.probe.name}',
                f'{score:.2f}, random weights {by_chance:.2f}', 'above random',
                score > by_chance)]


def pretrain(setting: Setting, method: str, folder: Path, batch: int, epochs: int) -> Path:
    """A run by the published config with the settings above; returns its checkpoint."""
    options = {
        **SETTINGS[method], 'optim_wrapper.type': 'BFloat16OptimWrapper', 'global_batch': batch,
        'schedule.warmup_epochs': WARMUP * epochs, 'checkpoint.every_epochs': epochs,
        'train_dataloader.num_workers': workers_of(setting), 'log_interval': 1 if setting.small
        else 10}
    if setting.small:
        options |= {'model.backbone.type': backbone_type(setting), 'views.0.size': 64,
                    'views.1.size': 64, 'optim_wrapper.type': 'OptimWrapper'}
        options |= {'model.queue': 8} if method == 'MoCo v2' else {'model.projection': [32, 16],
                                                                   'model.num_regions': 4}
    return quietly(lambda: train(CONFIGS[method], data=str(setting.data), work_dir=str(folder),
                                 epochs=epochs, options=options))


def rates(folder: Path) -> list[float]:
    return scalars(folder, 'images_per_s')


def scalars(folder: Path, name: str) -> list[float]:
    """A value of a run's log, line by line."""
    path = max(folder.glob('*/vis_data/scalars.json'))
    return [line[name] for text in path.read_text().splitlines() if name in (line := json.loads(
        text))]
