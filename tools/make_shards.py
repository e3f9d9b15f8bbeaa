#!/usr/bin/env python
"""The same as `densessl make_shards`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['make_shards', *sys.argv[1:]]))
