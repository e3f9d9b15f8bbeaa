"""From JPEGs to batches: loader workers, the share of time a run waits, decoding on the GPU."""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from densessl.config import load_config
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.machine.cores import cores
from densessl.masks.find import Masks, store_for_training
from densessl.planning.plan import make_plan
from densessl.training.train import build_runner
from densessl.views.dataset import ViewDataset, build_loader
from densessl.views.view import AugmentedView
from on_gpu.models import BFLOAT16, config_of, quietly
from on_gpu.record import Row
from on_gpu.setting import Setting

SOI = b'\xff\xd8\xff'       # how a JPEG begins
WAITING = 0.05              # goal: the share of a run's time in which no batch is ready


def workers_of(setting: Setting) -> int:
    """Loader processes on this machine: all cores but the training's."""
    return 2 if setting.small else max(1, cores() - 1)


def samples(setting: Setting, cfg: Any) -> ViewDataset:
    """DetCon-B's views of the images, with their masks, which are made if there are none."""
    store, images = stored_masks(find_images(setting.data), cfg)
    return ViewDataset(images, store, [AugmentedView(**view) for view in cfg.views],
                       uniforms=cfg.uniforms)


def stored_masks(images: ImageList, cfg: Any) -> tuple[Masks, ImageList]:
    """The masks of the config, in the cache, and the images that have one."""
    return quietly(lambda: store_for_training(images, cfg.masks.to_dict(), is_builder=True))


def masks(setting: Setting) -> list[Row]:
    """How long the masks take, on all cores; none if the cache has them already."""
    images = find_images(setting.data)
    start = time.perf_counter()
    stored_masks(images, load_config('detcon_r50'))
    seconds = time.perf_counter() - start
    return [Row(f'masks of {len(images)} images, Felzenszwalb, {cores()} cores',
                f'{seconds:.0f} s, {len(images) / seconds:.0f} images/s')]


def loading(setting: Setting) -> list[Row]:
    """Images/s that loader workers deliver: two views with masks of every image."""
    cfg = config_of(setting, 'DetCon-B')
    dataset, rows = samples(setting, cfg), []
    size = 2 if setting.small else 64
    for workers in sorted({1, workers_of(setting)}):
        loader = build_loader(dataset, batch_size=size, num_workers=workers,
                              pin_memory=setting.on_gpu)
        found, count = iter(loader), 6 * workers
        for _ in range(loader.prefetch_factor * workers):   # what may have been made already
            next(found)
        start = time.perf_counter()
        for _ in range(count):
            next(found)
        rate = count * size / (time.perf_counter() - start)
        del found
        rows.append(Row(f'loader, {workers} workers: images/s, two views with masks',
                        f'{rate:.0f}, {rate / workers:.0f} a worker'))
    return rows


def waiting(setting: Setting) -> list[Row]:
    """A run of DetCon-B on the images: its rate, and the share of the time without a batch."""
    size, steps = (4, 8) if setting.small else (256, 60)
    cfg = config_of(setting, 'DetCon-B', {
        **BFLOAT16, 'train_dataloader.num_workers': workers_of(setting),
        'log_interval': steps // 4, 'checkpoint.every_epochs': 1000})
    cfg.train_dataloader.batch_size = size
    dataset = samples(setting, cfg)
    epochs = -(-steps * size // len(dataset))
    plan = make_plan(cfg, epochs=epochs, images=len(dataset), processes=1)
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    folder = setting.work(f'waiting{time.time_ns()}')
    runner = quietly(lambda: build_runner(cfg, 'detcon_r50', plan, dataset, folder, 'none', False))
    quietly(runner.train)
    lines = [json.loads(line) for line in
             next(Path(folder).glob('*/vis_data/scalars.json')).read_text().splitlines()][1:]
    waited, took = (sum(line[key] for line in lines) for key in ('data_time', 'time'))
    share = waited / took
    return [Row(f'DetCon-B on JPEGs, batch {size}, {workers_of(setting)} workers: images/s',
                f'{size * len(lines) / took:.0f}'),
            Row('… of the time waiting for data', f'{share:.1%}', f'≤ {WAITING:.0%}',
                share <= WAITING)]


def decoding(setting: Setting) -> list[Row]:
    """Decoding alone: nvJPEG beside one core of the loader's decoder."""
    images = find_images(setting.data)
    count = min(len(images), 16 if setting.small else 512)
    one_core = time.perf_counter()
    for i in range(count):
        images.open(i).pixels(1)
    one_core = count / (time.perf_counter() - one_core)
    rows = [Row('decoding JPEGs, loader, one core', f'{one_core:.0f} images/s, on {cores()} cores '
                f'{one_core * cores():.0f}')]
    files = [data for i in range(count)
             if (data := Path(images.path(i)).read_bytes()).startswith(SOI)]
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    size = min(64, len(tensors))

    def decode() -> None:
        for start in range(0, len(tensors), size):
            decode_jpeg(tensors[start:start + size], mode=ImageReadMode.RGB,
                        device=setting.device)
    name = f'decoding JPEGs, torchvision on {setting.device}, {size} at a time'
    try:
        seconds = setting.seconds(decode, runs=1 if setting.small else 3, warmup=1)
    except RuntimeError as error:       # a build without nvJPEG, a kind that it does not know
        return [*rows, Row(name, f'not possible: {" ".join(str(error).split())[:200]}')]
    return [*rows, Row(name, f'{len(tensors) / seconds:.0f} images/s')]
