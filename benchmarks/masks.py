"""Every mask generator: speed, memory and quality, in one table.

    make bench-masks        or  python benchmarks/masks.py [--data BSDS500] [--images N]

Times are those of one core (CPU time, medians over the pictures, the generators taking turns at
each picture), × how much faster than scikit-image's Felzenszwalb–Huttenlocher at the same picture.
Memory is the peak of a process of its own at 1024×768, less what it held before. Quality is
measured at 481×321 (``densessl.masks.quality``); of those with several label maps, the mean.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import mask_pictures
import numpy as np
from mask_pictures import LARGE, Picture

from densessl.machine.facts import machine_facts, versions
from densessl.masks.generator import MaskGenerator
from densessl.masks.quality import Quality, measure
from densessl.registry import MASK_GENERATORS

OWN, PEER = 'felzenszwalb', 'felzenszwalb_skimage'
CONFIGS = [dict(type=OWN), dict(type=PEER), dict(type='multiscale_felzenszwalb'),
           dict(type='slic'), dict(type='grid'), dict(type='whole_image')]
LARGE_PICTURES = 8
FASTER, MEMORY, POINTS = 15, 0.5, 0.5        # what is wanted of our own against the peer


@dataclass
class Row:
    """What was measured of a generator; times in seconds, one a picture, by size."""

    small: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)
    regions: list[float] = field(default_factory=list)
    quality: list[Quality] = field(default_factory=list)
    peak: float = 0.0                        # MiB

    def mean(self, which: str) -> float | None:
        """The mean of a measure of quality, in percent; None if it was not measured."""
        values = [getattr(quality, which) for quality in self.quality]
        return 100 * statistics.mean(values) if values else None


def timed(generator: MaskGenerator, picture: Picture) -> tuple[float, np.ndarray]:
    """CPU seconds and the label maps, (maps, H, W)."""
    start = time.process_time()
    labels = generator.for_image(f'{picture.name}.jpg', picture.image)
    return time.process_time() - start, labels.reshape(-1, *picture.image.shape[:2])


def judge(config: dict[str, Any], picture: Picture, maps: np.ndarray) -> Quality | None:
    """The quality of ``maps``. What repeats the first true map is judged by the others."""
    repeats = config['type'] in ('label_maps', 'coco')
    truths = picture.truths[1:] if repeats else picture.truths
    if not truths:
        return None
    each = [measure(labels, truths) for labels in maps]
    return Quality(*(statistics.mean(getattr(one, which) for one in each)
                     for which in ('asa', 'recall', 'under')))


def run(configs: list[dict[str, Any]], some: list[Picture], *, small: bool,
        rows: dict[str, Row]) -> None:
    """Time each generator at each picture, after one that does not count; at the ``small`` size
    measure quality, too."""
    generators = [MASK_GENERATORS.build(config) for config in configs]
    for generator in generators:
        timed(generator, some[0])            # compiles, imports, reads annotations
    for done, picture in enumerate(some):
        if sys.stderr.isatty():
            print(f'\r{done}/{len(some)} ', end='', file=sys.stderr)
        for config, generator in zip(configs, generators, strict=True):
            seconds, maps = timed(generator, picture)
            row = rows[config['type']]
            (row.small if small else row.large).append(seconds)
            if small:
                row.regions.append(statistics.mean(int(labels.max()) + 1 for labels in maps))
                quality = judge(config, picture, maps)
                row.quality += [quality] if quality else []


# -- memory ----------------------------------------------------------------------------------------

def peak_memory(config: dict[str, Any], picture: Picture, folder: Path) -> float:
    """The MiB that one call needs at most, by a process that has made a call at a smaller picture
    before (so that code and tables are not counted)."""
    np.save(folder / 'image.npy', picture.image)
    order = json.dumps({'config': config, 'name': picture.name, 'image': str(folder / 'image.npy')})
    done = subprocess.run([sys.executable, __file__, '--memory', order], check=True,
                          capture_output=True, text=True)
    return float(done.stdout)


def measure_memory(order: str) -> None:
    """The other side of :func:`peak_memory`."""
    asked = json.loads(order)
    generator, image = MASK_GENERATORS.build(asked['config']), np.load(asked['image'])
    if asked['config']['type'] in ('label_maps', 'coco'):       # these know of one size only
        generator.for_image(f'{asked["name"]}.jpg', image)
    else:
        generator(image[:64, :64])
    Path('/proc/self/clear_refs').write_text('5')               # the peak counts from here
    before = _status('VmRSS')
    generator.for_image(f'{asked["name"]}.jpg', image)
    print((_status('VmHWM') - before) / 1024)


def _status(key: str) -> int:
    """A figure of this process as Linux has it, in KiB."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{key}:'))


# -- the table -------------------------------------------------------------------------------------

def table(rows: dict[str, Row]) -> list[str]:
    """The lines of the table, in Markdown."""
    head = ['generator', 'ms at 481×321', '× scikit-image', 'ms at 1024×768', '× scikit-image',
            'peak MiB', 'regions', 'ASA %', 'BR %', 'UE %']
    lines = [f'| {" | ".join(head)} |', '|---|' + '--:|' * (len(head) - 1)]
    for name, row in rows.items():
        cells = [f'`{name}`']
        for size in ('small', 'large'):
            cells += [f'{1000 * statistics.median(getattr(row, size)):.1f}',
                      spelled(speedup(rows, name, size))]
        cells += [f'{row.peak:.0f}' if row.peak else '–', f'{statistics.mean(row.regions):.0f}']
        values = [row.mean(which) for which in ('asa', 'recall', 'under')]
        cells += ['–' if value is None else f'{value:.1f}' for value in values]
        lines.append(f'| {" | ".join(cells)} |')
    return lines


def spelled(ratio: float) -> str:
    """A ratio; those above a thousand mean no more than that."""
    return f'{ratio:.1f}' if ratio < 1000 else '> 1000'


def speedup(rows: dict[str, Row], name: str, size: str) -> float:
    """How many times faster than the peer: the median of the ratios at each picture."""
    return statistics.median(peer / max(own, 1e-6) for peer, own in zip(
        getattr(rows[PEER], size), getattr(rows[name], size), strict=True))


def verdict(rows: dict[str, Row]) -> list[tuple[str, bool]]:
    """What is wanted of our own against scikit-image's, and whether it holds."""
    own, peer = rows[OWN], rows[PEER]
    lines = []
    for size, words in (('small', '481×321'), ('large', '1024×768')):
        ratio = speedup(rows, OWN, size)
        lines.append((f'{ratio:.1f} times as fast at {words}, wanted {FASTER}', ratio >= FASTER))
    if peer.peak:
        share = own.peak / peer.peak
        lines.append((f'{share:.2f} of the memory, wanted at most {MEMORY}', share <= MEMORY))
    for which, words in (('asa', 'ASA'), ('recall', 'BR'), ('under', 'UE')):
        points = own.mean(which) - peer.mean(which)
        lines.append((f'{words} {points:+.2f} points, wanted within {POINTS}',
                      abs(points) <= POINTS))
    return lines


def main() -> int:
    """Print the table; 1 if our own misses what is wanted of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mask_pictures.add_arguments(parser)
    parser.add_argument('--memory', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        measure_memory(args.memory)
        return 0
    cv2.setNumThreads(1)
    what, small = mask_pictures.pictures(args.data, args.images)
    large = [picture.resized(LARGE) for picture in small[:LARGE_PICTURES]]
    with tempfile.TemporaryDirectory() as folder:
        configs = {size: CONFIGS + mask_pictures.write_first_truths(Path(folder) / size, some)
                   for size, some in (('small', small), ('large', large))}
        rows = {config['type']: Row() for config in configs['small']}
        run(configs['small'], small, small=True, rows=rows)
        run(configs['large'], large, small=False, rows=rows)
        for config in configs['large'] if Path('/proc/self/clear_refs').exists() else []:
            rows[config['type']].peak = peak_memory(config, large[0], Path(folder))
    installed = versions()
    print(f'{what}; the {len(large)} at 1024×768 are scaled up. {machine_facts()["processor"]}, '
          f'scikit-image {installed["scikit-image"]}, numba {installed["numba"]}.\n')
    print('\n'.join(table(rows)))
    print(f'\n`{OWN}` against `{PEER}`:')
    judged = verdict(rows)
    for line, holds in judged:
        print(f'- {line}: {"holds" if holds else "MISSED"}')
    return 0 if all(holds for _, holds in judged) else 1


if __name__ == '__main__':
    sys.exit(main())
