"""The command: its measurements, the process they run in, and how it goes on where it stopped.

Measurements run in a process beside this one. One that fails is a row that says so. If the process
dies, hangs or its GPU gives errors from then on, another one takes the rest.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from densessl.demo.sample import write_scenes
from densessl.errors import RunFailed
from densessl.files.json_files import write_json
from densessl.machine.cores import cores
from on_gpu import correct, exact, jpegs, kernels, learns, steps
from on_gpu.models import CONFIGS
from on_gpu.record import Record, Row
from on_gpu.setting import Setting, card, facts
from on_gpu.table import PARTS, markdown, put_table

RUNNING = 'running.json'    # what is being measured, since when
# In messages of errors after which a process has no more use of its GPU.
BROKEN = ('CUDA error', 'device-side assert', 'CUBLAS_STATUS', 'cuDNN error', 'NCCL error')
Measure = Callable[[Setting], list[Row]]


@dataclass(frozen=True)
class Measurement:
    """Something to measure; ``seconds`` is more than it takes on an H100."""

    name: str
    measure: Measure
    seconds: float

    @property
    def limit(self) -> float:
        """Seconds after which it hangs."""
        return 4 * self.seconds + 120


def measurements(minutes: float, *, small: bool = False) -> list[Measurement]:
    """All of them; what says most comes first. In a small check two methods stand for the others.
    """
    methods = [method for method in CONFIGS if method in learns.SETTINGS or not small]
    found = [
        Measurement('correct: tests', correct.tests, 90),
        Measurement('correct: precisions', partial(correct.precisions, choices=correct.PRECISIONS),
                    45),
        Measurement('correct: processes', correct.processes, 60),
        Measurement('exact: killed and resumed', partial(exact.killed_and_resumed,
                                                         options=exact.OPTIONS), 120)]
    found += [Measurement(f'fast: step of {method}', partial(steps.step, method=method), 40)
              for method in methods]
    found += [
        Measurement('fast: DetCon loss', kernels.detcon_loss, 30),
        Measurement('fast: updates', kernels.updates, 15),
        Measurement('fast: options', partial(steps.options, choices=steps.OPTIONS), 90),
        Measurement('fast: masks', jpegs.masks, 60),
        Measurement('fast: loading', jpegs.loading, 60),
        Measurement('fast: waiting', jpegs.waiting, 60),
        Measurement('fast: decoding', jpegs.decoding, 20)]
    found += [Measurement(f'fast: largest batch of {method}', partial(steps.largest, method=method),
                          40) for method in methods]
    found += [
        Measurement('fast: compile', partial(steps.options, choices=steps.COMPILED), 180),
        Measurement('correct: compile', partial(correct.precisions, choices=correct.COMPILED), 120),
        Measurement('learns: random weights', learns.random, 40)]
    found += [Measurement(f'learns: {method}', partial(learns.pretrained, method=method),
                          60 * minutes + 100) for method in learns.SETTINGS]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse(arguments)
    if args.into:
        return put_table(Record(args.out), args.into)
    if args.device == 'cuda' and not torch.cuda.is_available():
        print('gpu_check: PyTorch sees no CUDA device here; --device cpu --small tries all parts '
              'on the CPU', file=sys.stderr)
        return 2
    if wrong := refusal(args):
        print(f'gpu_check: {wrong}', file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault('DENSESSL_CACHE', str(args.out.resolve() / 'cache'))
    if args.measure:
        return measure_all(settings(args), args)
    Record(args.out).note_facts(facts(args.device))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))       # so that nothing is left running
    try:
        supervise(args, arguments if arguments is not None else sys.argv[1:])
    except RunFailed as error:
        print(f'gpu_check: {error}', file=sys.stderr)
        return 1
    return conclude(args)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='gpu_check', description='Is densessl right, exact and fast on this GPU, and does it '
        'learn there? Writes gpu_check.json and gpu_check.md; started again, it goes on.')
    parser.add_argument('--parts', default=','.join(PARTS), metavar='A,B', help='of '
                        f'{", ".join(PARTS)} (default: all)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu_check'))
    parser.add_argument('--budget', type=float, metavar='MINUTES', help='begin nothing that would '
                        'not be done by then')
    parser.add_argument('--data', type=Path, metavar='DIR', help='images to read and to pretrain '
                        'on (default: drawn scenes)')
    parser.add_argument('--probe', type=Path, metavar='DIR', help='images/ and labels/ of {train,'
                        'val} for the dense probe (default: drawn scenes)')
    parser.add_argument('--minutes', type=float, default=3, help='of pretraining for each method '
                        '(default: 3)')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--small', action='store_true', help='tiny networks and few steps: tries '
                        'every line, and its figures mean nothing')
    parser.add_argument('--into', type=Path, metavar='PAGE', help='measure nothing; put the table '
                        'of --out into that Markdown page')
    parser.add_argument('--measure', nargs='+', help=argparse.SUPPRESS)
    parser.add_argument('--until', type=float, default=float('inf'), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.parts = args.parts.split(',')
    return args


def refusal(args: argparse.Namespace) -> str:
    """What is wrong with the arguments; ``''`` if nothing is."""
    for part in args.parts:
        if part not in PARTS:
            return f'--parts {part}: choices are {", ".join(PARTS)}'
    for name in ('data', 'probe'):
        folder = getattr(args, name)
        if folder is not None and not folder.is_dir():
            return f'--{name} {folder}: there is no such folder'
    if args.device == 'cpu' and not args.small:
        return '--device cpu: add --small, the published sizes would take days'
    if args.minutes <= 0:
        return f'--minutes {args.minutes:g}: must be above 0'
    return ''


def settings(args: argparse.Namespace) -> Setting:
    """What measurements are told; scenes are drawn where there are no images."""
    drawn = args.out / 'scenes'
    if args.data is None or args.probe is None:
        counts = dict(unlabelled=24, train=4, val=4, size=(80, 80)) if args.small else dict(
            unlabelled=1536, train=96, val=96, size=(256, 256))
        write_scenes(drawn, **counts, workers=1 if args.small else cores())
    return Setting(args.device, args.small, args.data or drawn / 'unlabelled',
                   args.probe or drawn, args.out.resolve(),
                   0.01 if args.small else args.minutes)


def due(args: argparse.Namespace, tried: Iterable[str] = ()) -> list[Measurement]:
    """What is still to be measured: what was never tried, then what failed at another start."""
    record = Record(args.out)
    wanted = [one for one in measurements(args.minutes, small=args.small)
              if one.name.split(':')[0] in args.parts and not record.is_done(one.name)
              and one.name not in tried]
    return sorted(wanted, key=lambda one: record.has_failed(one.name))


def supervise(args: argparse.Namespace, arguments: list[str]) -> None:
    """Have measured what is due, by as many processes as it takes."""
    until = time.time() + 60 * args.budget if args.budget else float('inf')
    tried: set[str] = set()
    while left := due(args, tried):
        (args.out / RUNNING).unlink(missing_ok=True)
        wrong = watch([sys.executable, sys.argv[0], *arguments, '--until', str(until),
                       '--measure', *(one.name for one in left)], args.out,
                      {one.name: one.limit for one in left})
        progress = progress_in(args.out)
        tried |= {*progress['tried']}
        if wrong and not progress['running']:
            raise RunFailed(f'the measuring process {wrong} before it measured anything')
        if wrong:
            print(f'  failed: {wrong}', flush=True)
            Record(args.out).fail(progress['running'], f'the process {wrong}',
                                  time.time() - progress['since'], card(args.device))
        elif not progress['poisoned']:
            return              # all was tried, or the time is up


def watch(command: list[str], out: Path, limits: dict[str, float]) -> str:
    """Run the measuring process; returns how it ended if it did not end by itself."""
    process = subprocess.Popen(command, preexec_fn=os.setpgrp)      # with all that it starts
    try:
        while process.poll() is None:
            time.sleep(0.2)
            progress = progress_in(out)
            if time.time() - progress['since'] > limits.get(progress['running'], float('inf')):
                return f'hung: it was ended after {limits[progress["running"]]:.0f} s'
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    code = process.returncode
    return '' if code == 0 else f'was ended by signal {-code}' if code < 0 else (
        f'ended with exit code {code}')


def progress_in(out: Path) -> dict[str, Any]:
    """What the measuring process has tried, and what it is at."""
    path = out / RUNNING
    nothing = {'tried': [], 'running': '', 'since': time.time(), 'poisoned': False}
    return json.loads(path.read_text()) if path.is_file() else nothing


def measure_all(setting: Setting, args: argparse.Namespace) -> int:
    """In the measuring process: measure what is named, as far as the time goes."""
    known = {one.name: one for one in measurements(args.minutes, small=args.small)}
    record, tried = Record(args.out), []
    for name in args.measure:
        if time.time() + known[name].seconds > args.until:
            print(f'{name}: left for another start, its {known[name].seconds:.0f} s may not be '
                  f'left', flush=True)
            continue
        print(name, flush=True)
        tried.append(name)
        start = time.time()
        note = partial(write_json, args.out / RUNNING)
        note({'tried': tried, 'running': name, 'since': start, 'poisoned': False})
        try:
            setting.release()
            rows = known[name].measure(setting)
        except Exception as error:      # whatever it is, the others are worth being measured
            traceback.print_exc()
            said = ' '.join(f'{type(error).__name__}: {error}'.split())
            record.fail(name, said[:600], time.time() - start, card(setting.device))
            if any(word in str(error) for word in BROKEN):      # for the rest of the process
                note({'tried': tried, 'running': '', 'since': start, 'poisoned': True})
                return 0
        else:
            record.keep(name, rows, time.time() - start, card(setting.device))
            for row in rows:
                mark = {True: '', False: '  MISSED', None: ''}[row.passed]
                print(f'  {row.figure}: {row.value}' + (f' (goal {row.goal})' if row.goal else '')
                      + mark, flush=True)
    return 0


def conclude(args: argparse.Namespace) -> int:
    """Write the table, say what is left and what failed."""
    record = Record(args.out)
    table = args.out / 'gpu_check.md'
    table.write_text(markdown(record))
    failed = [name for name in record.measurements if record.has_failed(name)]
    missed = [name for name, one in record.measurements.items()
              if any(row['passed'] is False for row in one['rows'])]
    left = [one.name for one in due(args) if not record.has_failed(one.name)]
    print(f'{record.path}, {table}: {len(record.measurements) - len(failed)} measured, '
          f'{len(failed)} failed, {len(missed)} with a goal that was missed')
    if left:
        print(f'left, for the same command again: {", ".join(left)}')
    wrong = [name for name in missed if name.startswith(('correct:', 'exact:'))]
    return 1 if failed or wrong else 0
