#!/usr/bin/env python
"""The same as `densessl demo`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['demo', *sys.argv[1:]]))
