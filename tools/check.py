#!/usr/bin/env python
"""The same as `densessl check`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['check', *sys.argv[1:]]))
