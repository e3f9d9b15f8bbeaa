"""For developers and owners of GPUs: is densessl right, exact and fast on this GPU, does it learn?

    python tools/gpu_check.py [--parts correct,exact,fast,learns] [--data IMAGES] [--probe DIR]

Its code is in ``benchmarks/on_gpu``; docs/gpu.md explains it.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))

from on_gpu.check import main

if __name__ == '__main__':
    sys.exit(main())
