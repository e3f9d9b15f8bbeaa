"""What mmengine's JSON logs of a run hold, as curves."""
from __future__ import annotations

from pathlib import Path

from densessl.watch.record import read_lines

Points = list[tuple[float, float]]


def read_curves(folder: Path, since: str = '') -> dict[str, Points]:
    """The logged scalars of a run by name: (step, value) in the order of steps.

    A resumed run has several logs; the later one counts where they overlap.

    Args:
        folder: the run's work folder, with ``TIMESTAMP/vis_data/scalars.json`` in it.
        since: a TIMESTAMP; older logs are of another run.
    """
    found: dict[str, dict[float, float]] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        if path.parts[-3] < since:
            continue
        for line in read_lines(path):
            for name, value in line.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    found.setdefault(name, {})[line['step']] = value
    return {name: sorted(points.items()) for name, points in found.items()}
