"""What watching a run costs, as shares of its own time.

    python benchmarks/watching.py IMAGES LABELLED [--config small/detcon_r18] [--epochs 1]

A run is trained as ``densessl train --probe`` does, and the seconds within the hooks that watch it
are counted: at a line of the log, in the iterations between, and in probes. Shares are of the time
of training in the same run, so other programs disturb them little.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from functools import wraps
from typing import Any

from densessl.training.loop import PretrainLoop
from densessl.training.train import train
from densessl.watch.health import HealthHook
from densessl.watch.probe_hook import ProbeHook

SPENT: dict[str, float] = defaultdict(float)
CALLS: dict[str, int] = defaultdict(int)
BEGUN: list[float] = []


def timed(cls: type, name: str, label: Any) -> None:
    """Count the seconds of a method of a hook."""
    original = getattr(cls, name)

    @wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(self, *args, **kwargs)
        finally:
            key = label(self)
            SPENT[key] += time.perf_counter() - began
            CALLS[key] += 1
    setattr(cls, name, call)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images'), parser.add_argument('labelled')
    parser.add_argument('--config', default='small/detcon_r18')
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--log-interval', type=int, default=50)
    args = parser.parse_args()
    for name in ('before_train_iter', '_see_views', '_see_maps', '_see_compared',
                 '_before_update', '_after_update', 'after_train_iter'):
        timed(HealthHook, name, lambda hook: 'line' if hook.look else 'between')
    timed(PretrainLoop, 'run_iter', lambda loop: 'step')
    timed(ProbeHook, '_probe', lambda hook: 'probe')
    timed(ProbeHook, 'before_train', lambda hook: BEGUN.append(time.perf_counter()) or 'start')
    with tempfile.TemporaryDirectory() as folder:
        train(args.config, data=args.images, probe=args.labelled, work_dir=folder,
              epochs=args.epochs, options={'log_interval': args.log_interval})
        whole = time.perf_counter() - BEGUN[0]
    training = whole - SPENT['probe']
    steps, lines = max(1, CALLS['step']), max(1, CALLS['step'] // args.log_interval)
    step = training / steps
    print(f'\n{steps} steps of {step:.3f} s; watching takes {SPENT["line"] / lines / step:.2%} of '
          f'a step at a line of the log, {SPENT["between"] / steps / step:.4%} between; '
          f'{CALLS["probe"]} probes of {SPENT["probe"] / max(1, CALLS["probe"]) / step:.1f} steps')


if __name__ == '__main__':
    main()
