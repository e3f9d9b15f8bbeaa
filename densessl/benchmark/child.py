"""A densessl command in a process that ends when the process that started it ends.

    python -m densessl.benchmark.child finetune CONFIG …

Standard input is a pipe that its parent holds and never writes to: it closes however the parent
ends, killed or not, and an orphan would go on writing into a folder that is used again.
"""
from __future__ import annotations

import os
import sys
import threading

from densessl.cli import main


def _end_with_parent() -> None:
    os.read(0, 1)   # not sys.stdin, whose lock would be held when the interpreter shuts down
    os._exit(1)


if __name__ == '__main__':
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
