#!/usr/bin/env python
"""The same as `densessl benchmark`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['benchmark', *sys.argv[1:]]))
