"""Torture: are runs that were killed, whose files were damaged or whose disk was full, in the end
what they would have been?

    python tools/torture.py [--kills 20] [--methods detcon finetune …] [--small] [--out table.md]

Small runs of every method, of ``finetune`` and of ``benchmark`` are killed (SIGKILL) at random
moments and at exact ones: before, within and after each call that changes what is on the disk.
Half of the runs keep one checkpoint. They are started again by the same command until they end.
Then pretraining must have the same bits as a run that nobody disturbed, fine-tuning all scores and
checkpoints, a benchmark all results. Prints a Markdown table; exit code 1 if anything differs.
"""
from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')     # a process with threads cannot be forked

import cv2
import torch
from torture_forks import Ended, Point, damage, quicken, run, small_disk
from torture_runs import BENCHMARK, FINETUNE, METHODS, Job, jobs, make_data

from densessl.cli import main as densessl
from densessl.engine.checkpoint_file import numbered

DAMAGES = ('empty', 'half', 'bit')
SMALL = ['simclr', FINETUNE]
LIVES = 4       # kills of one run at random moments, at most


@dataclass
class Tally:
    """What was done to the runs of a job, and what came out otherwise than it should."""

    job: Job
    random_kills: int = 0
    exact_kills: int = 0
    with_one: int = 0       # kills of runs that keep one checkpoint
    runs: int = 0
    damages: int = 0
    full: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def check(self, what: str, wrong: str) -> None:
        self.runs += 1
        if wrong:
            self.wrong.append(f'{self.job.name}: {what}: {wrong}')
            print(f'WRONG {self.wrong[-1]}', file=sys.stderr, flush=True)


class Torturer:
    """Tortures the runs of one job.

    Args:
        kills: how many, half of them at random moments.
    """

    def __init__(self, job: Job, folder: Path, kills: int, seed: int) -> None:
        self.job, self.folder, self.kills = job, folder, kills
        self.random = random.Random(f'{seed} {job.name}')
        self.tally = Tally(job)
        self.references: dict[int, tuple[Path, Ended]] = {}
        self.count = 0

    def run(self) -> Tally:
        with contextlib.redirect_stdout(io.StringIO()):     # what is loaded and compiled is shared
            densessl(self.job.command(self.folder / 'first', 1))
        gc.collect()
        gc.freeze()     # what the forks inherit is not looked through by each of them
        for keep in (1, 3):
            path = self.folder / f'undisturbed{keep}'
            self.references[keep] = path, self._expect(run(self.job.command(path, keep)))
        self._kill_at_random()
        self._kill_at_points()
        if self.job.name != BENCHMARK:
            self._damage()
            self._fill()
        return self.tally

    def _new(self) -> Path:
        self.count += 1
        return self.folder / f'run{self.count}'

    def _expect(self, ended: Ended, code: int = 0) -> Ended:
        if ended.code != code:
            self.tally.check('a run', f'exit code {ended.code}, not {code}: {ended.said[-800:]}')
        return ended

    def _finish(self, folder: Path, keep: int, what: str) -> None:
        ended = run(self.job.command(folder, keep))
        self.tally.check(what, f'exit code {ended.code}: {ended.said[-800:]}' if ended.code else
                         self.job.compare(folder, self.references[keep][0]))
        shutil.rmtree(folder)

    def _kill_at_random(self) -> None:
        while self.tally.random_kills < self.kills // 2:
            folder, keep = self._new(), self.random.choice((1, 1, 3))
            seconds, killed = self.references[keep][1].seconds, 0
            while killed < LIVES and self.tally.random_kills < self.kills // 2:
                ended = run(self.job.command(folder, keep),
                            kill_after=self.random.uniform(0, seconds))
                if ended.code != -9:
                    self._expect(ended)
                    break
                killed += 1
                self.tally.random_kills += 1
                self.tally.with_one += keep == 1
            self._finish(folder, keep, f'killed {killed} times, {keep} kept')

    def _kill_at_points(self) -> None:
        calls = min(ended.calls for _, ended in self.references.values())
        points = [Point(number, when) for number in range(calls)
                  for when in ('before', 'within', 'after')]
        self.random.shuffle(points)
        for i, point in enumerate(points):
            if self.tally.exact_kills == self.kills - self.kills // 2:
                break
            folder, keep = self._new(), 1 if i % 2 == 0 else 3
            ended = run(self.job.command(folder, keep), kill_at=point)
            if ended.code != -9:
                self._expect(ended)
            else:
                self.tally.exact_kills += 1
                self.tally.with_one += keep == 1
            self._finish(folder, keep, f'killed {point.when} call {point.number}, {keep} kept')

    def _damage(self) -> None:
        whole = self.references[3][0]
        for how in DAMAGES:
            folder = self._new()
            shutil.copytree(whole, folder)
            (folder / 'scores.json').unlink(missing_ok=True)
            newest, before = reversed(numbered(folder)[-2:])
            damage(newest, how, self.random)
            ended = run(self.job.command(folder, 3))
            self.tally.damages += 1
            if f'{newest.name} is damaged' not in ended.said or before.name not in ended.said:
                self.tally.check(f'{newest.name}: {how}', f'not said: {ended.said[-800:]}')
            self._finish(folder, 3, f'{newest.name}: {how}')

    def _fill(self) -> None:
        """No room for a checkpoint, in the middle of the run."""
        size = numbered(self.references[1][0])[-1].stat().st_size
        folder = self._new()
        run(self.job.command(folder, 1), kill_at=Point(self.references[1][1].calls // 2, 'before'))
        self._one_line(run(self.job.command(folder, 1), largest_file=size * 2 // 3))
        self.tally.full.append('limit')
        self._finish(folder, 1, 'no file that large')
        disk = self._new()
        with small_disk(disk, size * 5 // 2) as resize:
            if resize is None:
                return
            self._one_line(run(self.job.command(disk / 'run', 9)))
            self.tally.full.append('disk')
            resize(size * 20)
            self._finish(disk / 'run', 1, 'a full disk')

    def _one_line(self, ended: Ended) -> None:
        last = (ended.said.strip().splitlines() or [''])[-1]
        if ended.code != 1 or 'Traceback' in ended.said or 'cannot save' not in last:
            self.tally.check('no room', f'exit code {ended.code}: {ended.said[-800:]}')


def table(tallies: list[Tally]) -> str:
    """A Markdown table of what was done and what came out."""
    lines = ['| run | killed at random | at exact moments | one checkpoint kept | damaged files '
             '| no room | result |', '|---|--:|--:|--:|--:|--:|---|']
    for tally in tallies:
        good = tally.runs - len(tally.wrong)
        words = 'the same bits' if tally.job.exact else 'complete'
        lines.append(f'| {tally.job.name} | {tally.random_kills} | {tally.exact_kills} | '
                     f'{tally.with_one} | {tally.damages or "—"} | {len(tally.full) or "—"} | '
                     f'{good} of {tally.runs} runs {words} |')
    kills = sum(tally.random_kills + tally.exact_kills for tally in tallies)
    rooms = sorted({name for tally in tallies for name in tally.full})
    lines += ['', f'{kills} kills; no room: ' + (', '.join(
        {'limit': 'a limit on the size of files', 'disk': 'a small file system'}[name]
        for name in rooms) or 'not tried')]
    return '\n'.join(lines)


def main() -> int:
    """Torture what is asked for; 1 if anything is otherwise than it should be."""
    every = [*METHODS, FINETUNE, BENCHMARK]
    parser = argparse.ArgumentParser(description=__doc__.partition('\n\n')[0])
    parser.add_argument('--kills', type=int, help='of each kind of run (default: 20; with --small '
                        '2)')
    parser.add_argument('--methods', nargs='+', choices=every, help='default: all')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='also write the table to this file')
    parser.add_argument('--small', action='store_true', help=f'a minute: {", ".join(SMALL)}')
    args = parser.parse_args()
    kills = args.kills or (2 if args.small else 20)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    quicken()
    tallies = []
    with tempfile.TemporaryDirectory(prefix='densessl-torture-') as place:
        os.environ['DENSESSL_CACHE'] = f'{place}/cache'
        make_data(Path(place))
        for job in jobs(args.methods or (SMALL if args.small else every), Path(place)):
            folder = Path(place, 'runs')
            tallies.append(Torturer(job, folder, kills, args.seed).run())
            print(table(tallies).splitlines()[-3], file=sys.stderr, flush=True)
            shutil.rmtree(folder)
    print(table(tallies))
    if args.out:
        args.out.write_text(table(tallies) + '\n')
    return 1 if any(tally.wrong for tally in tallies) else 0


if __name__ == '__main__':
    sys.exit(main())
