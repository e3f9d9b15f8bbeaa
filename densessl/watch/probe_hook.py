"""Probes a run while it trains, at intervals that cost little, and acts on what comes out."""
from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from densessl.engine.stop import micro_batches, save_newest
from densessl.errors import RunFailed
from densessl.watch.labelled import LabelledImages, ProbeSettings
from densessl.watch.probe import probe_backbone
from densessl.watch.record import PROBES, JsonLines

SHARE = 0.02            # of the time of training, which the default interval allows a probe
BEST = 'best.pth'       # the checkpoint of the best probe


class ProbeHook(Hook):
    """Probes before the first step, every so many iterations, and after the last.

    The first process probes, and tells the others when to and whether to end. What it measures
    goes to the log, to every backend as ``probe/mIoU`` and ``probe/propagation``, and to
    ``probes.jsonl``, where ``start`` is the mIoU before the first step.

    Args:
        settings: what and how often.
        data: the labelled images; None in all processes but the first.
        normalization: of the run: ``mean``, ``std``, ``channel_order``.
        interval: iterations between two lines of the log.
        keep_best: keep the checkpoint of the highest mIoU as ``best.pth``.
        start: what the run starts from, in words.
    """

    priority = 'LOW'        # after the line of the log

    def __init__(self, settings: ProbeSettings, data: LabelledImages | None,
                 normalization: Mapping[str, Any], *, interval: int, keep_best: bool = False,
                 start: str = 'random weights') -> None:
        self.settings, self.data, self.normalization = settings, data, normalization
        self.line, self.keep_best, self.start_words = interval, keep_best, start
        self.interval = settings.interval or 0      # 0: not known yet
        self.file: JsonLines | None = None
        self.lines: list[dict[str, Any]] = []
        self.seconds = 0.0      # that a probe takes
        self.timed = 0          # lines of the log since this process began

    def before_train(self, runner: Runner) -> None:
        if is_main_process():
            self.file = JsonLines(Path(runner.work_dir) / PROBES)
            self.lines = self.file.begin(runner.iter)
            self.seconds = max((line.get('seconds') or 0 for line in self.lines), default=0)
            if not self.lines:
                self._probe(runner, runner.iter)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        done = runner.iter + 1
        if not self.interval and self.every_n_train_iters(runner, self.line):
            self.timed += 1
            if self.timed == 2:     # in the first the workers were still starting
                self.interval = self._choose(runner)
        due = self.interval and done % (self.interval * micro_batches(runner)) == 0
        if not due and not self.is_last_train_iter(runner):
            return
        if is_main_process():
            self._probe(runner, done)
        if self.settings.stop_below_start:
            self._stop_below(runner, done)

    def _choose(self, runner: Runner) -> int:
        """So many updates between two probes that these take :data:`SHARE` of the time."""
        micro = micro_batches(runner)
        one = float(runner.message_hub.get_scalar('train/time').current()) * micro
        chosen = torch.tensor([max(1, math.ceil(self.seconds / (SHARE * one)))])
        broadcast(chosen)
        interval = int(chosen)
        runner.logger.info(
            f'probe: it takes {self.seconds:.2f} s, an update {one:.3f} s, so it is made every '
            f'{interval} updates ({SHARE:.0%} of the time), and at the end; probe.interval=N '
            f'chooses another interval')
        return interval

    def _probe(self, runner: Runner, done: int) -> None:
        """Measure, and write down what came out."""
        backbone = getattr(runner.model, 'module', runner.model).backbone
        if torch.cuda.is_available():
            torch.cuda.synchronize()        # what was queued before is not the probe's time
        began = time.perf_counter()
        scores = probe_backbone(backbone, self.data, self.settings, self.normalization)
        seconds = time.perf_counter() - began
        self.seconds = self.seconds or seconds
        start = next((line['mIoU'] for line in self.lines if line['step'] == 0), None)
        best = max((line['mIoU'] for line in self.lines if line['step']), default=-1.0)
        line = {'step': done, 'mIoU': round(scores.mIoU, 4),
                'propagation': round(scores.propagation, 4),
                'start': round(scores.mIoU, 4) if done == 0 else start,
                'seconds': round(seconds, 3)}
        self.lines.append(line)
        self.file.append(line)
        runner.logger.info(_words(line, self.start_words))
        runner.visualizer.add_scalars({f'probe/{name}': line[name] for name in
                                       ('mIoU', 'propagation')}, step=done)
        if self.keep_best and done and line['mIoU'] > best:     # of equals the first
            runner.save_checkpoint(runner.work_dir, BEST, by_epoch=False)
            runner.logger.info(f'probe: {BEST} is of this step, the best so far')
        runner.train_loop.aside += time.perf_counter() - began

    def _stop_below(self, runner: Runner, done: int) -> None:
        """End the run if the last probes were all below the start.

        Raises:
            RunFailed: they were; a checkpoint is saved.
        """
        number = self.settings.stop_below_start
        after = [line for line in self.lines if line['step'] > 0][-number:]
        flag = torch.tensor([int(len(after) == number and all(map(is_below, after)))])
        broadcast(flag)
        if not flag.item() or self.is_last_train_iter(runner):
            return
        save_newest(runner, done)
        raise RunFailed(f'stopped after iteration {done}: the last {number} probes were below the '
                        f'start (probe.stop_below_start={number}): training made the features '
                        f'worse at this task; a lower learning rate, fewer epochs or other images '
                        f'may help')


def is_below(line: Mapping[str, Any]) -> bool:
    """Whether a probe came out below that of the start."""
    return line['start'] is not None and line['mIoU'] < line['start']


def _words(line: Mapping[str, Any], start: str) -> str:
    where = f'after iteration {line["step"]}' if line['step'] else f'of the start ({start})'
    text = f'probe {where}: mIoU {line["mIoU"]:.2f}, label propagation {line["propagation"]:.2f}'
    if line['step'] and line['start'] is not None:
        difference = line['mIoU'] - line['start']
        side = 'below' if difference < 0 else 'above' if difference > 0 else 'level with'
        text += f'; {side} the start ({line["start"]:.2f}, {difference:+.2f})'
    return f'{text} ({line["seconds"]:.2f} s)'
