"""How long until something happens, and what a long list of images costs.

    python benchmarks/startup.py [--runs 5] [--paths 1000000] [--workers 4]

First, commands after the interpreter's own start. Then a training run on a list of a million paths
(symbolic links make them of a few drawn scenes) and on one of a thousand: seconds from the command
to the end of the first step, and the memory of each loader worker by /proc/PID/smaps_rollup: what
is its alone (USS), and with its share of what it shares (PSS). Workers are forked, as is the
default on Linux, or spawned, as it is elsewhere.
"""
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from densessl.demo.sample import write_scenes

COMMANDS = {
    'import densessl': ['-c', 'import densessl'],
    'densessl --help': ['-m', 'densessl.cli', '--help'],
    'densessl train --help': ['-m', 'densessl.cli', 'train', '--help'],
    'densessl plugins': ['-m', 'densessl.cli', 'plugins'],
}


def seconds(arguments: list[str]) -> float:
    """Of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def write_list(folder: Path, scenes: Path, paths: int) -> Path:
    """A list of different paths, each of which is one of the scenes."""
    names = sorted(path.name for path in scenes.iterdir())
    folder.mkdir(parents=True)
    links = -(-paths // len(names))
    for i in range(links):
        (folder / f'class_{i:08d}').symlink_to(scenes)
    lines = [f'class_{i:08d}/{name}' for i in range(links) for name in names][:paths]
    (folder / 'list.txt').write_text('\n'.join(lines) + '\n')
    return folder / 'list.txt'


def memory(pid: int) -> dict[str, float]:
    """USS and PSS of a process in MiB."""
    kib = {}
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]:
        name, value = line.split(':')
        kib[name] = int(value.split()[0])
    return {'USS': (kib['Private_Clean'] + kib['Private_Dirty']) / 1024, 'PSS': kib['Pss'] / 1024}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, which other programs do not lengthen."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def workers_of(pid: int) -> list[int]:
    """The loader's workers: children that do not merely track resources."""
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [int(child) for child in children
            if b'resource_tracker' not in Path(f'/proc/{child}/cmdline').read_bytes()]


def train(listed: Path, work_dir: Path, method: str, workers: int) -> dict[str, float]:
    """Start a run, wait for its first step, look at its workers, end it."""
    arguments = ['train', 'small/simclr_r18', '--data', str(listed), '--work-dir', str(work_dir),
                 '--epochs', '1', '--cfg-options', 'views.0.size=64', 'views.1.size=64',
                 'train_dataloader.batch_size=16', f'train_dataloader.num_workers={workers}',
                 'log_interval=1', f"env_cfg={{'mp_cfg': {{'mp_start_method': '{method}'}}}}"]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'densessl.cli', *arguments],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not any(path.stat().st_size for path in work_dir.glob('*/vis_data/scalars.json')):
            if process.poll() is not None:
                raise SystemExit(f'the run on {listed} ended with {process.returncode}')
            time.sleep(0.02)
        result = {'first step': time.perf_counter() - start, 'CPU': cpu_seconds(process.pid)}
        time.sleep(3)      # every worker has read some images
        sizes = [memory(pid) for pid in workers_of(process.pid)]
        return result | {key: statistics.median(size[key] for size in sizes) for key in sizes[0]}
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--paths', type=int, default=1_000_000)
    parser.add_argument('--workers', type=int, default=4)
    args = parser.parse_args()
    pauses: dict[str, list[float]] = {}
    for _ in range(args.runs):
        bare = seconds(['-c', 'pass'])
        for name, arguments in COMMANDS.items():
            pauses.setdefault(name, []).append(seconds(arguments) - bare)
    print(f'seconds after the interpreter\'s start, medians of {args.runs}')
    for name, values in pauses.items():
        print(f'{name:>24} {statistics.median(values):8.3f}')

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = write_scenes(folder / 'scenes', unlabelled=1000, train=0, val=0,
                              size=(96, 96)) / 'unlabelled'
        lists = {paths: write_list(folder / str(paths), scenes, paths)
                 for paths in (1000, args.paths)}
        size = os.path.getsize(lists[args.paths]) / 2**20
        print(f'\ntraining on a list of paths, {args.workers} workers; the names of {args.paths} '
              f'are {size:.0f} MiB\n{"":>28} {"first step":>12} {"its CPU time":>14} '
              f'{"USS a worker":>14} {"PSS a worker":>14}')
        for method in ('fork', 'spawn'):
            for paths, listed in lists.items():
                row = train(listed, folder / f'{method}_{paths}', method, args.workers)
                print(f'{method:>12} {paths:>15} {row["first step"]:>10.1f} s '
                      f'{row["CPU"]:>12.1f} s {row["USS"]:>10.0f} MiB {row["PSS"]:>10.0f} MiB',
                      flush=True)


if __name__ == '__main__':
    main()
