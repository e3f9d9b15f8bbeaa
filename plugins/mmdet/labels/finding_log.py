"""What is noticed while annotations are read: collected by kind, for a data report."""
from __future__ import annotations

from collections import Counter
from typing import Any

from densessl.labels.data_report import Finding, Kind


class FindingLog:
    """Findings by their words, each with a file for every object or image concerned.

    Attributes:
        filled: how often a key was missing and filled in, by the key.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[str, Kind, str], list[str]] = {}
        self.filled: Counter[str] = Counter()

    def add(self, words: str, file: str, kind: Kind = 'unusable', unit: str = 'objects',
            times: int = 1) -> None:
        """Note that ``times`` objects (or other units) of ``file`` do what ``words`` say."""
        if times > 0:
            self._files.setdefault((words, kind, unit), []).extend([file] * times)

    def filled_words(self) -> str:
        return ', '.join(f'{key} of {times} '
                         f'{"image" if key == "width and height" else "annotation"}'
                         f'{"s" if times != 1 else ""}' for key, times in self.filled.items())

    def findings(self) -> tuple[Finding, ...]:
        return tuple(Finding(words, tuple(files), kind, unit)
                     for (words, kind, unit), files in self._files.items())


def as_flag(value: Any) -> int | None:
    """0 or 1 for a flag in any of the spellings in use (1, 1.0, true, "1", "yes" …); 0 for None
    and empty text; None if it is neither."""
    if isinstance(value, str):
        text = value.strip().lower()
        return (1 if text in ('1', '1.0', 'true', 'yes') else
                0 if text in ('0', '0.0', 'false', 'no', 'none', '') else None)
    if value is None:
        return 0
    return int(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None
