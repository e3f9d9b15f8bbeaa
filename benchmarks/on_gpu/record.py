"""What was measured: rows with their goals, written to gpu_check.json after each measurement."""
from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from densessl.files.json_files import write_json

NAME = 'gpu_check.json'


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        figure: what it is. value: what was measured, with its unit.
        goal: what it should be, or ``''``. passed: whether it is; None without a goal.
    """

    figure: str
    value: str
    goal: str = ''
    passed: bool | None = None


class Record:
    """The measurements of a folder, by name.

    Args:
        folder: where gpu_check.json is, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.content: dict[str, Any] = {'facts': {}, 'measurements': {}}
        if self.path.is_file():
            self.content = json.loads(self.path.read_text())

    @property
    def measurements(self) -> dict[str, dict[str, Any]]:
        return self.content['measurements']

    def is_done(self, name: str) -> bool:
        """Whether it was measured, and without an error."""
        return name in self.measurements and not self.measurements[name].get('error')

    def has_failed(self, name: str) -> bool:
        return bool(self.measurements.get(name, {}).get('error'))

    def keep(self, name: str, rows: list[Row], seconds: float, card: str) -> None:
        """Keep what a measurement gave."""
        self._write(name, {'rows': [asdict(row) for row in rows], 'seconds': round(seconds, 1),
                           'card': card})

    def fail(self, name: str, error: str, seconds: float, card: str) -> None:
        """Keep why a measurement gave nothing."""
        self._write(name, {'rows': [], 'seconds': round(seconds, 1), 'card': card,
                           'error': error})

    def note_facts(self, facts: dict[str, str]) -> None:
        self.content['facts'] = facts
        write_json(self.path, self.content)

    def _write(self, name: str, found: dict[str, Any]) -> None:
        self.measurements[name] = {**found, 'date': time.strftime('%Y-%m-%d')}
        write_json(self.path, self.content)
