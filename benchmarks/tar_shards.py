"""Tar shards against files in folders: reading by position, and opening an index.

    make bench-shards   or   python benchmarks/tar_shards.py [--images FOLDER] [--count N]

Image and mask of random positions are read from files and from shards in turns, from the page cache
and with what is read dropped from it before (posix_fadvise, which the file system may ignore).
The index of a million images is written for shards that are empty but for their size.
"""
from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from input_data import prepare

from densessl.files.json_files import write_json
from densessl.images import tar_index
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.machine.facts import machine_facts
from densessl.masks.find import open_masks
from densessl.masks.store import Masks, StoreMasks
from densessl.masks.tar_masks import masks_beside
from densessl.shards.write import make_shards

BATCH = 64          # reads between two looks at the clock
Source = tuple[ImageList, Masks]


def read_bytes(source: Source, i: int) -> None:
    """Image and mask as stored."""
    images, masks = source
    images.data(i)
    masks.data(i)


def read_pixels(source: Source, i: int) -> None:
    """Image and mask, decoded."""
    images, masks = source
    images.read(i)
    masks.read(i)


def forget(source: Source) -> None:
    """Drop the files of a source from the page cache."""
    images, masks = source
    paths = {images.path(i) for i in range(len(images))}
    if isinstance(masks, StoreMasks):
        paths |= {masks.store.path(images.name(i)) for i in range(len(images))}
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def compare(sources: dict[str, Source], what: str, read: Callable[[Source, int], None],
            rounds: int, cold: bool) -> None:
    """Print the median ms of a read from each source, in turns."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            positions = rng.integers(0, len(source[0]), BATCH).tolist()
            if cold:
                forget(source)
            start = time.perf_counter()
            for i in positions:
                read(source, i)
            times[name].append(1000 * (time.perf_counter() - start) / BATCH)
    files, shards = (statistics.median(times[name]) for name in ('files', 'shards'))
    print(f'  {what:<34} {files:8.3f} {shards:8.3f} {files / shards:8.2f} ×', flush=True)


def opening(work: Path, entries: int, runs: int) -> None:
    """Print how long it takes to open shards of ``entries`` images with masks, 10000 each."""
    names = [f'n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG' for i in range(entries)]
    images = ImageList.of(work, work, [name.encode() for name in names])
    places = 120_000 * (np.arange(entries) % 10_000)
    rows = np.stack([np.arange(entries) // 10_000, places, np.full(entries, 110_000),
                     places + 111_000, np.full(entries, 3000)], 1)
    folder = work / f'opened-{entries}'
    folder.mkdir()
    tar_index.save(folder / tar_index.INDEX, (*images.buffers(), rows))
    shards = [{'file': f'{k:06d}.tar', 'bytes': 1_200_000_000} for k in range(rows[-1, 0] + 1)]
    for shard in shards:
        (folder / shard['file']).touch()
        os.truncate(folder / shard['file'], shard['bytes'])       # sparse
    write_json(folder / tar_index.INFO, {
        'format': tar_index.FORMAT, 'complete': True, 'shards': shards, 'digest': images.digest(),
        'source': images.digest(), 'shard_size': 10 ** 9,
        'masks': {'generator': 'grid', 'parameters': {}, 'version': 1}})
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        found = find_images(folder)
        times.append(time.perf_counter() - start)
    assert found.name(entries - 1) == names[-1]
    print(f'an index of {entries:>9} images with masks in {len(shards):>4} shards '
          f'({(folder / tar_index.INDEX).stat().st_size / 1e6:6.1f} MB): opened in '
          f'{1000 * statistics.median(times):.1f} ms')


def indexing(folder: Path, members: int) -> None:
    """Print how long it takes to index shards that have no index."""
    (folder / tar_index.INFO).unlink()
    for path in folder.glob('*.tar'):
        path.read_bytes()       # into the page cache
    os.environ['DENSESSL_CACHE'] = str(folder / 'cache')
    start = time.perf_counter()
    find_images(folder)
    print(f'tar files without an index: {1e6 * (time.perf_counter() - start) / members:.0f} µs a '
          f'member')


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=Path, metavar='FOLDER', help='to read (default: '
                        'photographs of COCO, else drawn scenes)')
    parser.add_argument('--count', type=int, default=2000, metavar='N', help='of them, at most; '
                        'fewer are repeated under other names')
    parser.add_argument('--rounds', type=int, default=15, metavar='N')
    parser.add_argument('--entries', type=int, default=1_000_000, metavar='N')
    parser.add_argument('--work', type=Path, help='a folder on the file system to measure')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        work = Path(name)
        images, store, what = prepare(work, args.images, min(args.count, 128))
        images, masks = repeated(images, Path(store.root), args.count)
        start = time.perf_counter()
        summary = make_shards(images, work / 'shards', masks=masks, shard_size=30 * 10 ** 6,
                              progress=False)
        print(f'{what}; {len(images)} in all with masks; {machine_facts()["processor"]}\n'
              f'{2 * len(images)} files, {summary.written} shards of 30 MB, written in '
              f'{time.perf_counter() - start:.1f} s')
        shards = find_images(work / 'shards')
        sources = {'files': (images, open_masks(images, masks)),
                   'shards': (shards, masks_beside(shards))}
        print(f'\nms for image and mask of a position {"files":>8} {"shards":>8} {"ratio":>10}')
        compare(sources, 'bytes, in the page cache', read_bytes, args.rounds, cold=False)
        compare(sources, 'decoded, in the page cache', read_pixels, args.rounds, cold=False)
        compare(sources, 'bytes, dropped from the page cache', read_bytes, args.rounds, cold=True)
        print()
        indexing(work / 'shards', 2 * len(images))
        for entries in (1000, args.entries):
            opening(work, entries, args.rounds)


def repeated(images: ImageList, masks: Path, count: int) -> tuple[ImageList, Path]:
    """``count`` images in folders of 1000, copies of those there are, and their masks."""
    folder = images.root.parent
    for i in range(count):
        source = images.path(i % len(images))
        for kind, path in (('many', source),
                           ('many_masks', masks / source.with_suffix('.png').name)):
            target = folder / kind / f'{i // 1000:03d}' / f'{i:06d}{path.suffix}'
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    info = (masks / 'masks.json').read_text()
    found = find_images(folder / 'many')
    digest = images.digest()
    (folder / 'many_masks' / 'masks.json').write_text(info.replace(digest, found.digest()))
    return found, folder / 'many_masks'


if __name__ == '__main__':
    main()
