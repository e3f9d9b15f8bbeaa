"""Two views with masks: what each stage costs, and the whole pipelines beside other libraries'.

    make bench-input [IMAGES=DIR]
    python benchmarks/input.py [--images DIR] [--number 128] [--rounds 15]

One core. All that are compared take the same images in turns, a few at a time, and medians over
the turns are given. Times are of this process's CPU, which other processes on the machine disturb
less than they disturb the clock. Peers run where they are installed (``make bench-input`` does
that, in an environment of its own); a peer that is not there is named with the reason.
"""
from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
import numpy as np
import torch
from input_data import prepare
from input_peers import BLUR, JITTER, MEAN, PEERS, STD, kornia_operations, torchvision_operations

from densessl.images.image_list import ImageList
from densessl.masks.generator import MaskStore
from densessl.pixels.decode import open_image
from densessl.views import photometry as ph
from densessl.views import photometry_draw as draw
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.view import AugmentedView, draw_views

BATCH = 16      # images a turn
STRENGTH = {'brightness': 1.2, 'contrast': 1.2, 'saturation': 1.2, 'hue': 0.1, 'gray': 1.0,
            'sigma': 1.0, 'solarize': 0.5}
ADDED = 0.2      # brightness in TensorFlow's style, which adds it
NAMES = {'sigma': 'blur, sigma 1', 'gray': 'grayscale'}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=Path, help='any folder of images')
    parser.add_argument('--number', type=int, default=128, help='of images')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench_input'))
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    images, store, what = prepare(args.out, args.images, args.number)
    print(f'{what}\n{_machine()}\n')
    stages(images, store, args.rounds)
    photometry(images, args.rounds)
    for method in BLUR:
        pipelines(method, images, store if method == 'detcon' else None, args.rounds)


def _machine() -> str:
    model = next((line.split(':')[1].strip() for line in
                  Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name')),
                 platform.processor())
    return (f'one core of {model}, {os.cpu_count()} cores; {datetime.date.today()}; '
            f'Python {platform.python_version()}, PyTorch {torch.__version__}, '
            f'OpenCV {cv2.__version__}')


def in_turns(contestants: dict[str, Callable[[int], Any]], rounds: int, each: int
             ) -> dict[str, float]:
    """Milliseconds of CPU an item: medians over ``rounds`` turns of ``function(turn)``, which
    works on ``each`` items. A turn before them compiles and fills caches."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, function in contestants.items():
            start = time.process_time()
            function(turn)
            if turn:
                times[name].append((time.process_time() - start) * 1000 / each)
    return {name: statistics.median(values) for name, values in times.items()}


def views_of(method: str, style: str = 'torchvision') -> list[AugmentedView]:
    """The views of the published method, as the peers draw them."""
    return [AugmentedView(size=224, style=style, jitter=dict(p=0.8, **JITTER), gray=0.2,
                          blur=dict(p=blur, sigma=(0.1, 2.0))) for blur in BLUR[method]]


def stages(images: ImageList, store: MaskStore, rounds: int) -> None:
    """Print what each stage of the geometry costs an image."""
    views, number = views_of('detcon'), len(images)
    paths = [images.path(i) for i in range(number)]
    opened = [open_image(path) for path in paths]
    pictures = [stored.pixels() for stored in opened[:BATCH]]
    masks = [store.read(images.name(i)) for i in range(BATCH)]
    drawn, clipped = ([draw_views(views_of('detcon', style), np.random.default_rng(i), 375, 500, 64)
                       for i in range(number)] for style in draw.STYLES)
    dataset = ViewDataset(images, store, views)
    samples = [dataset[i, i] for i in range(BATCH)]

    def chosen(turn: int) -> list[int]:
        return [(turn * BATCH + i) % number for i in range(BATCH)]

    def cut(turn: int, arrays: list[np.ndarray], label: bool, drawn: list = drawn) -> None:
        for array, i in zip(arrays, chosen(turn), strict=True):
            for each in drawn[i]:
                each.view.cut(array, each.box, each.flip, label=label)

    def each_of(function: Callable[[int], Any]) -> Callable[[int], None]:
        return lambda turn: [function(i) for i in chosen(turn)] and None
    rows = in_turns({
        'read the file and its header': each_of(lambda i: open_image(paths[i])),
        'draw both views': each_of(lambda i: draw_views(
            views, np.random.default_rng((0, 1, i)), 375, 500, 64)),
        'decode': each_of(lambda i: opened[i].pixels()),
        '(decode at half size)': each_of(lambda i: opened[i].pixels(2)),
        'crop, resize, flip: two images': lambda turn: cut(turn, pictures, False),
        "(two images in TensorFlow's style)": lambda turn: cut(turn, pictures, False, clipped),
        'read and decode the mask': each_of(lambda i: store.read(images.name(i))),
        'crop, resize, flip: two masks': lambda turn: cut(turn, masks, True),
        'make a batch of it': lambda turn: collate(samples),
    }, rounds, BATCH)
    print('Geometry, ms an image\n')
    for name, value in rows.items():
        print(f'  {name:34} {value:7.3f}')
    total = sum(value for name, value in rows.items() if name[0] != '(')
    print(f'  {"together":34} {total:7.3f}\n')


def photometry(images: ImageList, rounds: int) -> None:
    """Print what each operation costs a view of 224 px beside other libraries'."""
    view = AugmentedView(size=224)
    whole = torch.from_numpy(np.stack([
        view.cut(open_image(images.path(i)).pixels(), (20, 60, 300, 300), False)
        for i in range(BATCH)]))
    channels_first = whole.permute(0, 3, 1, 2)
    contiguous = channels_first.contiguous()
    floats = (channels_first.float() / 255).contiguous()
    preprocess = ph.ViewPreprocessor(MEAN, STD)
    theirs, absent = {}, []
    for name, make in (('torchvision v2', torchvision_operations), ('kornia', kornia_operations)):
        try:
            theirs[name] = make()
        except ImportError as error:
            absent.append(f'{name} is absent: {error}')
    plain, released_plain = (torch.from_numpy(draw.parameters(
        np.random.default_rng(0), style=style)).repeat(BATCH, 1) for style in draw.STYLES)
    columns = ['densessl', 'TensorFlow style', 'by PyTorch', *theirs]
    print('Photometry, ms a view of 224 px\n')
    print(f'  {"":34} ' + ' '.join(f'{name:>16}' for name in columns))
    for operation in ('layout and normalization', *STRENGTH, 'all'):
        rows, released = _rows(plain, operation), _rows(released_plain, operation)
        contestants = {
            'densessl': lambda _, rows=rows: preprocess.photometry(whole, rows),
            'TensorFlow style': lambda _, rows=released: preprocess.photometry(whole, rows),
            'by PyTorch': lambda _, rows=rows: ph.augment(
                channels_first.float().div_(255), rows).sub_(preprocess.mean).div_(
                    preprocess.std)}
        value = STRENGTH.get(operation, 1.0)
        if operation in theirs.get('torchvision v2', ()):
            contestants['torchvision v2'] = lambda _, f=theirs['torchvision v2'][operation], \
                value=value: [f(x, value) for x in contiguous]
        if operation in theirs.get('kornia', ()):
            contestants['kornia'] = lambda _, f=theirs['kornia'][operation], value=value: f(
                floats, torch.full((BATCH,), value))
        times = in_turns(contestants, rounds, BATCH)
        cells = ' '.join(f'{times[name]:16.3f}' if name in times else f'{"":16}'
                         for name in columns)
        print(f'  {_spelled(operation):34} {cells}')
    print(f'  (all but the {len(columns) - 3} peers include layout and normalization in every row)')
    print(''.join(f'  {line}\n' for line in absent))


def _rows(plain: torch.Tensor, operation: str) -> torch.Tensor:
    """Parameters (B, P) that apply ``operation`` alone; ``'all'``: the jitter's four and blur."""
    rows = plain.clone()
    names = ('brightness', 'contrast', 'saturation', 'hue', 'sigma') if operation == 'all' else (
        [operation] if operation in STRENGTH else [])
    for name in names:
        added = name == 'brightness' and rows[0, draw.STYLE] == draw.HSV_ADDED
        rows[:, draw.PARAMETERS.index(name)] = ADDED if added else STRENGTH[name]
        if name in ('brightness', 'contrast', 'saturation', 'hue'):
            rows[:, ph.ORDER] = 0
    return rows


def _spelled(operation: str) -> str:
    return 'the whole jitter and blur, sigma 1' if operation == 'all' else NAMES.get(operation,
                                                                                     operation)


def pipelines(method: str, images: ImageList, store: MaskStore | None, rounds: int) -> None:
    """Print whole pipelines of two views of 224 px, files to normalized floats."""
    dataset, released = (ViewDataset(images, store, views_of(method, style))
                         for style in draw.STYLES)
    preprocess, number = ph.ViewPreprocessor(MEAN, STD), len(images)

    def batch(turn: int, dataset: ViewDataset = dataset) -> dict[str, Any]:
        return collate([dataset[n, n % number] for n in range(turn * BATCH, (turn + 1) * BATCH)])
    contestants: dict[str, Callable[[int], Any]] = {
        'densessl, geometry (uint8)': batch,
        'densessl, whole': lambda turn: preprocess(batch(turn), True),
        "densessl, TensorFlow's style": lambda turn: preprocess(batch(turn, released), True)}
    absent = []
    for name, make in PEERS.items():
        try:
            run = make(method)
        except ImportError as error:
            absent.append(f'  {name} is absent: {error}\n')
            continue
        contestants[name] = lambda turn, run=run: [
            run(images.path(i), store.path(images.name(i)) if store else None)
            for i in ((turn * BATCH + k) % number for k in range(BATCH))]
    times = in_turns(contestants, rounds, BATCH)
    what = 'image and stored mask (DetCon)' if store else 'image alone (SimCLR)'
    print(f'Two views, {what}: images/s on one core, and whole densessl against each\n')
    for name, value in times.items():
        ratio = value / times['densessl, whole']
        print(f'  {name:34} {1000 / value:7.1f}'
              + (f'   {ratio:5.1f} ×' if not name.startswith('densessl') else ''))
    print(''.join(absent))


if __name__ == '__main__':
    main()
