"""``python -m densessl``: the command, by the Python that runs.

With ``DENSESSL_ENDS_WITH_PARENT`` set it ends when the process that started it ends. Standard input
is then a pipe that its parent holds and never writes to: it closes however the parent ends, killed
or not, and an orphan would go on writing into a folder that is used again.
"""
from __future__ import annotations

import os
import sys
import threading

from densessl.cli import main


def end_with_parent() -> None:
    """From now on this process ends when standard input closes."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    os.read(0, 1)   # not sys.stdin, whose lock would be held when the interpreter shuts down
    os._exit(1)


if __name__ == '__main__':
    if os.environ.pop('DENSESSL_ENDS_WITH_PARENT', None):
        end_with_parent()
    sys.exit(main(sys.argv[1:]))
