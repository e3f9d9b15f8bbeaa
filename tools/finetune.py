#!/usr/bin/env python
"""The same as `densessl finetune`."""
import sys

from densessl.cli import main

if __name__ == '__main__':
    sys.exit(main(['finetune', *sys.argv[1:]]))
