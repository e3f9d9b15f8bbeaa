"""What a run shows while it trains: on a terminal a line an interval above a bar with the time that
is left, elsewhere the lines alone, and by wish warnings alone."""
from __future__ import annotations

import io
import logging
import sys
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from densessl.progress import Progress


class TerminalFormatter(logging.Formatter):
    """``12:30:05  message``, and what is more than information by its name."""

    def __init__(self) -> None:
        super().__init__('%(asctime)s  %(message)s', '%H:%M:%S')

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return text
        return text.replace('  ', f'  {record.levelname}: ', 1)


class LiveHook(Hook):
    """A bar below the lines of the log, moved by every iteration; it asks the device for nothing.

    Args:
        handler: writes the log to the terminal, while training lasts above the bar.
    """

    priority = 'VERY_LOW'

    def __init__(self, handler: logging.StreamHandler) -> None:
        self.handler = handler
        self.progress: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        self.progress = Progress('training', runner.max_iters).__enter__()
        self.progress.update(runner.iter)
        if self.progress.bar:
            self.stream = self.handler.setStream(_AboveBar(self.progress.bar.console))

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.progress.update(runner.iter + 1)

    def close(self) -> None:
        """Take the bar away, however training ended."""
        if self.progress and self.progress.bar:
            self.handler.setStream(self.stream)
            self.progress.__exit__(None, None, None)
        self.progress = None


class _AboveBar(io.TextIOBase):
    """Lines that are printed above what a console shows live."""

    def __init__(self, console: Any) -> None:
        self.console = console

    def write(self, text: str) -> int:
        self.console.print(text, end='', markup=False, highlight=False, soft_wrap=True)
        return len(text)


def show_live(runner: Runner, *, quiet: bool) -> LiveHook | None:
    """Set how ``runner`` is followed on the console.

    Args:
        quiet: warnings and errors alone.

    Returns:
        The hook of the bar, to be closed after training; None if there is no bar.
    """
    console = next((handler for handler in runner.logger.handlers
                    if isinstance(handler, logging.StreamHandler)
                    and not isinstance(handler, logging.FileHandler)), None)
    if console is None or not is_main_process():
        return None
    if quiet:
        console.setLevel(logging.WARNING)
    if not console.stream.isatty():
        return None
    console.setFormatter(TerminalFormatter())
    if quiet or not sys.stderr.isatty():
        return None
    hook = LiveHook(console)
    runner.register_hook(hook)
    return hook
