#!/usr/bin/env python
"""The same as `densessl export`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
