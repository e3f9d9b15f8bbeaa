#!/usr/bin/env python
"""The same as `densessl plugins`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['plugins', *sys.argv[1:]]))
