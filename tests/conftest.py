"""Before any test: one thread a process, and the bridge before the libraries that need it."""
import os

# Tests run small things, some of them in several processes; more threads than cores slow all down.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import densessl.transfer.mmcv_ops  # noqa: F401  before any import of what falls back without it
