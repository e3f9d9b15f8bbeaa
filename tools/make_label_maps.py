#!/usr/bin/env python
"""The same as `densessl make_label_maps`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['make_label_maps', *sys.argv[1:]]))
