#!/usr/bin/env python
"""The same as `densessl views`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['views', *sys.argv[1:]]))
