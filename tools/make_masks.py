#!/usr/bin/env python
"""The same as `densessl make_masks`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['make_masks', *sys.argv[1:]]))
