#!/usr/bin/env python
"""The same as `densessl predict`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['predict', *sys.argv[1:]]))
