#!/usr/bin/env python
"""The same as `densessl report`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['report', *sys.argv[1:]]))
