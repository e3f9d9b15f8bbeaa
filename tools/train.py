#!/usr/bin/env python
"""The same as `densessl train`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
