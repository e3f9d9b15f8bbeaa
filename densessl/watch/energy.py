"""The energy that a run takes, where the machine counts it: Linux counts that of processors
(``powercap``, often for root alone), NVIDIA's management library that of cards."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

POWERCAP = Path('/sys/class/powercap')
JOULES = 3.6e6      # a kWh


@dataclass
class Counter:
    """A count of energy that starts again at 0 now and then.

    Attributes:
        read: the count in joules. turn: how many joules it counts before it starts again; None if
            it never does.
    """

    read: Callable[[], float]
    turn: float | None = None

    def __post_init__(self) -> None:
        self.last = self.read()

    def since(self) -> float:
        """Joules since it was asked last."""
        before, self.last = self.last, self.read()
        spent = self.last - before
        return spent + self.turn if spent < 0 and self.turn else max(spent, 0.0)


class EnergyMeter:
    """Energy of a machine's processors and of the cards that this process sees, whoever uses them.

    Args:
        before: kWh of earlier parts of the run.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.joules = before * JOULES
        self.counters = [*processors(), *cards()]

    def kwh(self) -> float | None:
        """kWh until now; None if the machine counts none, or no longer does."""
        try:
            self.joules += sum(counter.since() for counter in self.counters)
        except (OSError, ValueError):       # the run goes on without the figure
            self.counters = []
        return self.joules / JOULES if self.counters else None


def processors(folder: Path = POWERCAP) -> list[Counter]:
    """A counter of each processor package; none where they may not be read."""
    found = []
    for zone in sorted(folder.glob('intel-rapl:*')):
        if zone.name.count(':') > 1:        # a part of a package
            continue
        try:
            turn = int((zone / 'max_energy_range_uj').read_text()) / 1e6
            found.append(Counter(lambda file=zone / 'energy_uj': int(file.read_text()) / 1e6, turn))
        except (OSError, ValueError):
            continue
    return found


def cards() -> list[Counter]:
    """A counter of each visible NVIDIA card; none without ``nvidia-ml-py``, or of older cards."""
    if not torch.cuda.is_available():
        return []
    try:
        import pynvml
    except ImportError:
        return []

    def counter(uuid: str) -> Counter:
        handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')

        def read() -> float:
            try:
                return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
            except pynvml.NVMLError as error:
                raise OSError(f'the card no longer counts its energy: {error}') from error
        return Counter(read)

    try:
        pynvml.nvmlInit()
        return [counter(torch.cuda.get_device_properties(i).uuid)
                for i in range(torch.cuda.device_count())]
    except (pynvml.NVMLError, AttributeError, OSError):     # no driver, an older card or PyTorch
        return []
