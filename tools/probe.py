#!/usr/bin/env python
"""The same as `densessl probe`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['probe', *sys.argv[1:]]))
