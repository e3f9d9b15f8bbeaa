"""The mask store at scale: throughput of a build, size and reading of a mask, start of a training.

    make bench-mask-store   or  python benchmarks/mask_store.py [--images FOLDER] [--entries N]

A build is the whole command's work: read and decode the image, divide it, encode the label map and
write it. The synthetic store has N entries that all are one file (hard links); opening it is timed
next to opening one of a thousand, with every system call that names a path below it counted by
Python's audit events.
"""
from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mask_pictures import bench_data

from densessl.demo.scenes import draw_scene
from densessl.files.writing import write_atomically
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.machine.cores import cores
from densessl.machine.facts import machine_facts
from densessl.masks import metadata as mask_info
from densessl.masks.build import make_masks
from densessl.masks.find import store_for_training
from densessl.masks.generator import MaskGenerator
from densessl.masks.store import MaskStore, mask_name
from densessl.pixels.decode import read_image
from densessl.pixels.label_png import encode
from densessl.registry import MASK_GENERATORS

IMAGENET = 1_281_167            # training images of ILSVRC 2012
READ_SIZE, READ_LIMIT = (375, 500), 1.0      # (H, W) of the masks that are read, ms wanted
FOLDER = 1300                   # images a folder, as ImageNet's classes have


def images_for(folder: Path | None, work: Path, count: int) -> ImageList:
    """At most ``count`` images of ``folder``; by default those of a sample of ImageNet, scaled to
    the size that ImageNet's usually have; without one drawn scenes of that size."""
    if folder:
        found = find_images(folder)
        return found.select(range(min(count, len(found))))
    sample = bench_data() / 'imagenet_sample'
    made = work / ('imagenet_sample' if sample.is_dir() else 'scenes')
    made.mkdir()
    found = find_images(sample) if sample.is_dir() else None
    for i in range(min(count, len(found) if found else 200)):
        image = read_image(found.path(i)) if found else draw_scene(i, size=READ_SIZE).image
        scale = min(READ_SIZE) / min(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(made / f'{i}.jpg'), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return find_images(made)


def throughput(images: ImageList, generator: MaskGenerator, work: Path, rounds: int) -> None:
    """Print the images a second with one process and with two, taking turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    cpu = []
    for turn in range(rounds):
        for workers, found in rates.items():
            # Workers start, and import what they need, once: not what a long build waits for.
            few = images.select(range(4 * workers))
            begun, _ = build(few, work / f'{turn}-{workers}-few', generator, workers)
            seconds, own = build(images, work / f'{turn}-{workers}', generator, workers)
            found.append((len(images) - len(few)) / (seconds - begun))
            cpu += [own / len(images)] if workers == 1 else []
    each = statistics.median(cpu)
    for workers, found in rates.items():
        report(f'{workers} process{"es" if workers > 1 else ""}', statistics.median(found))
    report(f'an idle core, at {1000 * each:.1f} ms of CPU an image', 1 / each)
    print(f'scaling: {statistics.median(rates[2]) / statistics.median(rates[1]):.2f} with two '
          f'processes on {cores()} cores (load {os.getloadavg()[0]:.1f} at the end)')
    size = [path.stat().st_size for path in (work / '0-1').rglob('*.png')]
    print(f'{statistics.mean(size):.0f} bytes a mask (median {statistics.median(size):.0f}) → '
          f'{IMAGENET * statistics.mean(size) / 2 ** 30:.1f} GiB for {IMAGENET / 1e6:.2f} M')


def build(images: ImageList, out: Path, generator: MaskGenerator, workers: int
          ) -> tuple[float, float]:
    """Make a store; the seconds it took, and the CPU seconds of this process."""
    start, own = time.perf_counter(), time.process_time()
    make_masks(images, out, generator, workers=workers, progress=False)
    return time.perf_counter() - start, time.process_time() - own


def report(who: str, rate: float) -> None:
    """Print a rate, in images a second, and what it comes to."""
    print(f'{who}: {rate:.1f} images/s → {IMAGENET / 1e6:.2f} M images in '
          f'{IMAGENET / rate / 3600:.1f} h')


def reading(images: ImageList, generator: MaskGenerator, work: Path) -> bool:
    """Print what reading a mask of READ_SIZE takes; whether it is within the limit."""
    store_folder = work / 'read'
    names = []
    for i in range(min(64, len(images))):
        image = cv2.imread(str(images.path(i)))
        if image is not None:
            path = work / 'sized' / f'{i}.png'
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(image, READ_SIZE[::-1]))
            names.append(path.name)
    sized = find_images(work / 'sized')
    make_masks(sized, store_folder, generator, workers=1, progress=False)
    store = MaskStore(store_folder)
    times = []
    for _ in range(5):
        for name in names:
            start = time.perf_counter()
            store.read(name)
            times.append(1000 * (time.perf_counter() - start))
    middle, most = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    print(f'reading a mask of {READ_SIZE[1]}×{READ_SIZE[0]}: {middle:.2f} ms (19 of 20 within '
          f'{most:.2f}), wanted {READ_LIMIT:g}: {"holds" if middle <= READ_LIMIT else "MISSED"}')
    return middle <= READ_LIMIT


# -- a large store ---------------------------------------------------------------------------------

@contextmanager
def counted(root: Path) -> Iterator[Counter[str]]:
    """Count what this process opens and lists below ``root``."""
    seen: Counter[str] = Counter()
    watching = [True]

    def note(event: str, arguments: tuple) -> None:
        if watching and event in ('open', 'os.listdir', 'os.scandir') \
                and str(arguments[0]).startswith(str(root)):
            seen[event] += 1
    sys.addaudithook(note)              # cannot be taken back, only told to do nothing
    try:
        yield seen
    finally:
        watching.clear()


def synthetic(root: Path, entries: int, generator: MaskGenerator) -> ImageList:
    """Write a finished store of ``entries`` masks; returns the list of images it is of."""
    names = [f'n{i // FOLDER:08d}/n{i // FOLDER:08d}_{i}.JPEG' for i in range(entries)]
    images = ImageList.of(root.parent / 'images', root.parent / 'images',
                          [name.encode() for name in names])
    mask_info.begin(root, images, generator)
    png = encode(np.arange(20).repeat(25)[None].repeat(READ_SIZE[0], 0))
    for i, name in enumerate(names):
        path = root / mask_name(name)
        if i % FOLDER == 0:             # a file a folder; links, because a file has at most 65000
            write_atomically(path, png)
            first = path
        else:
            os.link(first, path)
    mask_info.write_mark(root, (0, 1), images.digest(), entries, {})
    mask_info.finish(root, images, mask_info.gather_marks(root, images.digest()))
    return images


def start_of_training(entries: int, generator: MaskGenerator, work: Path) -> bool:
    """Print how long finding a store's masks takes; whether nothing was listed or opened but what
    describes it."""
    right = True
    for count in (1000, entries):
        root = work / f'synthetic-{count}' / 'masks'
        root.parent.mkdir()
        images = synthetic(root, count, generator)
        times = []
        with counted(root) as seen:
            for _ in range(5):
                start = time.perf_counter()
                masks, kept = store_for_training(images, dict(store=str(root)), is_builder=True)
                times.append(1000 * (time.perf_counter() - start))
        described = dict(seen)
        with counted(root) as seen:
            start = time.perf_counter()
            for i in np.random.default_rng(0).integers(0, len(kept), 256):
                masks.read(int(i))
            each = 1000 * (time.perf_counter() - start) / 256
        right &= set(described) == {'open'} and described['open'] <= 10 and seen['open'] == 256
        print(f'a store of {count:>7} masks: opened in {statistics.median(times):.1f} ms by '
              f'{described.get("open", 0) / 5:g} files, {described.get("os.scandir", 0)} folders '
              f'listed; then {each:.2f} ms a mask at random places')
    return right


def main() -> int:
    """Print all figures; 1 if one that is wanted is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='to divide (default: a '
                        'sample of ImageNet, else drawn scenes)')
    parser.add_argument('--count', type=int, default=1000, metavar='N', help='of them, at most')
    parser.add_argument('--entries', type=int, default=200_000, metavar='N',
                        help='masks of the synthetic store')
    parser.add_argument('--rounds', type=int, default=3, metavar='N')
    parser.add_argument('--work', type=Path, help='a folder on the file system to measure')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    generator = MASK_GENERATORS.build(dict(type='felzenszwalb'))
    generator(np.zeros((32, 32, 3), np.uint8))          # compiled before anything is timed
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = Path(folder).resolve()
        images = images_for(args.images, work, args.count)
        height, width = np.median([cv2.imread(str(images.path(i))).shape[:2]
                                   for i in range(min(50, len(images)))], axis=0)
        print(f'{len(images)} images of {images.root.name}, about {width:.0f}×{height:.0f}; '
              f'felzenszwalb; {machine_facts()["processor"]}')
        throughput(images, generator, work, args.rounds)
        right = reading(images, generator, work)
        right &= start_of_training(args.entries, generator, work)
    return 0 if right else 1


if __name__ == '__main__':
    sys.exit(main())
