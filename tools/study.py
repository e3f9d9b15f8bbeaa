#!/usr/bin/env python
"""The same as `densessl study`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['study', *sys.argv[1:]]))
