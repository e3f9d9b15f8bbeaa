"""What a run writes down for whoever looks at it later: JSON lines, one file a subject."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from densessl.files.json_files import parse_json, without_nan
from densessl.files.writing import write_text, writing

HEALTH, PROBES, ALARMS = 'health.jsonl', 'probes.jsonl', 'alarms.jsonl'


class JsonLines:
    """A file of one JSON object a line, each with the ``step`` it belongs to. Lines of a stopped
    run from after the step it goes on from are taken out, so that a resumed run's file is that of
    a run that was never stopped.

    Args:
        path: the file, made with its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, step: int) -> list[dict[str, Any]]:
        """Keep the lines up to ``step`` and return them; a line that was cut short is left out."""
        lines = [line for line in read_lines(self.path) if line['step'] <= step]
        if self.path.exists():
            write_text(self.path, ''.join(_line(line) for line in lines))
        return lines

    def append(self, content: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            RunFailed: it cannot be written.
        """
        with writing(self.path), self.path.open('a', encoding='utf-8') as file:
            file.write(_line(content))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of such a file, or of a log of mmengine's, those that are whole; none if there is
    no file."""
    if not path.is_file():
        return []
    found = []
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            line = parse_json(text)
        except ValueError:      # the run was killed while it wrote
            continue
        if isinstance(line, dict) and isinstance(line.get('step'), int):
            found.append(line)
    return found


def _line(content: dict[str, Any]) -> str:
    return json.dumps(without_nan(content), ensure_ascii=False) + '\n'
