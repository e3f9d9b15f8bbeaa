"""Progress of a long job on stderr: a bar on a terminal, a line now and then elsewhere."""
from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

EVERY = 10.0    # seconds between the lines where stderr is no terminal


class Progress:
    """A context that shows how many of ``total`` steps are done.

    Args:
        what: the word before the bar.
        total: how many steps there are.
        enabled: whether to show anything.
    """

    def __init__(self, what: str, total: int, *, enabled: bool = True) -> None:
        self.what, self.total = what, total
        self.enabled, self.bar = enabled, None

    def __enter__(self) -> Progress:
        self.start = self.last = time.monotonic()
        if self.enabled and sys.stderr.isatty():
            self.bar = _bar()
            self.task = self.bar.add_task(self.what, total=self.total)
            self.bar.start()
        return self

    def update(self, done: int) -> None:
        """Say that ``done`` steps of all are done."""
        now = time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=done)
        elif self.enabled and now - self.last >= EVERY:
            self.last, rate = now, done / (now - self.start)
            left = timedelta(seconds=round((self.total - done) / rate)) if rate else '?'
            print(f'{self.what}: {done}/{self.total}, {rate:.1f}/s, {left} left', file=sys.stderr,
                  flush=True)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


def _bar() -> Any:
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text(f'{task.speed:.1f}/s' if task.speed else '')

    return progress.Progress(
        progress.TextColumn('{task.description}'), progress.BarColumn(),
        progress.MofNCompleteColumn(), Rate(), progress.TimeRemainingColumn(),
        console=Console(stderr=True))


def duration(seconds: float) -> str:
    """``7.4 s``, ``38 s`` or ``3:41 min``."""
    if seconds < 60:
        return f'{seconds:.1f} s' if seconds < 10 else f'{seconds:.0f} s'
    return f'{str(timedelta(seconds=round(seconds))).removeprefix("0:").removeprefix("0")} min'
