"""A cell of a study: a piece of work with an identity, done by commands, kept as one JSON file."""
from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.files.json_files import read_json_object
from densessl.planning.decisive_settings import digest_of
from densessl.study.plan import FILLED, Source

RECORD = 'cell.json'
DONE, FAILED = 'done', 'failed'
Command = list[str]     # the arguments of densessl
Run = Mapping[str, float]   # of a command: its ``cpu_seconds`` and ``seconds``


@dataclass(frozen=True)
class Place:
    """Where a study is done.

    Attributes:
        folder: all cells are kept in it, those of other studies too.
        paths: data sets by name. sources: what the file says of them.
        machine: the processor, which decides how long a step takes. threads: of each process.
    """

    folder: Path
    paths: dict[str, Path]
    sources: Mapping[str, Source]
    machine: str = ''
    threads: int = 1
    digests: dict[str, str | None] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """The folder or file of ``'NAME'`` or ``'NAME/inside'``.

        Raises:
            UsageError: nobody said where it is, or it is not there.
        """
        source, _, inside = name.partition('/')
        if source not in self.paths:
            said = self.sources[source]
            words = ' '.join(part for part in (said.what, said.url and f'({said.url})') if part)
            raise UsageError(f'data {source}{words and f", {words}"}: say where it is with --data '
                             f'{source}=DIR')
        path = self.paths[source] / inside if inside else self.paths[source]
        if not path.exists():
            raise UsageError(f'data {name}: there is no {path}; correct --data {source}=DIR')
        return path

    def digest(self, name: str) -> str | None:
        """A hash of the names and sizes of a data set's files, the same on every machine; None if
        it is not known where it is, or if the study makes it: then its cell says what it is."""
        source = name.partition('/')[0]
        if source not in self.paths or self.sources[source].label_maps_of:
            return None
        if name not in self.digests:
            self.digests[name] = _digest_of_files(self.path(name))
        return self.digests[name]

    def filled(self, value: Any) -> Any:
        """``value`` with the path of a data set in the place of its ``{NAME}``."""
        if not isinstance(value, str):
            return value
        return re.sub(FILLED, lambda match: str(self.path(match[1])), value)


@dataclass(frozen=True)
class Cell:
    """A piece of work; subclasses say how it is done.

    Attributes:
        label: what messages call it. after: the cells whose results it needs.
        minutes: an estimate of its CPU time before anything like it was measured.
    """

    label: str
    after: tuple[Cell, ...] = ()
    minutes: float = 1.0
    kind = 'cell'
    resumes = False     # whether a command that was stopped goes on where it was

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its result, as JSON can hold it."""
        raise NotImplementedError

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        """The command to do next; None if there is none. What the cell needs is done.

        Args:
            runs: of the commands that were done.
        """
        raise NotImplementedError

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        """What its commands found, for its JSON file; nothing, unless a kind of cells says more.

        Args:
            runs: of its commands.

        Raises:
            UsageError: what they should have left is missing.
        """
        return {}

    def products(self, place: Place) -> list[Path]:
        """What other cells take from it, beside its record."""
        return []

    def tidy(self, place: Place) -> None:
        """Delete what nobody needs once it is done."""

    @cached_property
    def id(self) -> str:
        """Twelve digits that change with any of its settings, and with those of the cells that
        decide its result."""
        return digest_of([self.kind, self.settings, [one.id for one in self.decided_by]])

    @property
    def decided_by(self) -> tuple[Cell, ...]:
        """Those of the cells it needs whose identity is part of its own."""
        return self.after

    @property
    def similar(self) -> str:
        """Cells with the same word cost about the same."""
        return self.kind

    def folder(self, place: Place) -> Path:
        """Where it is kept."""
        return place.folder / 'cells' / f'{self.kind}-{self.id}'

    def record(self, place: Place) -> dict[str, Any] | None:
        """What its JSON file says; None if it was not done.

        Raises:
            UsageError: the file is damaged.
        """
        path = self.folder(place) / RECORD
        if not path.is_file():
            return None
        return read_json_object(path, ('id', 'status'), remedy='delete it, and the cell is done '
                                'again')

    def is_done(self, place: Place) -> bool:
        """Whether it was done."""
        record = self.record(place)
        return record is not None and record['status'] == DONE


def words_of(arguments: Mapping[str, Any], place: Place) -> list[str]:
    """Options of a command: ``{'ignore': [11]}`` → ``['--ignore', '11']``."""
    words: list[str] = []
    for key, value in arguments.items():
        if value is False or value is None:
            continue
        words.append(f'--{key.replace("_", "-")}')
        if value is not True:
            words += [str(place.filled(one)) for one in (
                value if isinstance(value, (list, tuple)) else [value])]
    return words


def options_of(options: Mapping[str, Any], place: Place) -> list[str]:
    """Overrides of a config: ``['--cfg-options', 'a.b=1', …]``, or nothing."""
    pairs = [f'{key}={place.filled(value)!r}' for key, value in options.items()]
    return ['--cfg-options', *pairs] if pairs else []


def _digest_of_files(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_file():
        digest.update(path.read_bytes())    # and there is nothing to walk
    for folder, inner, names in os.walk(path, followlinks=True):
        inner.sort()
        for name in sorted(names):
            if not name.startswith('.'):
                file = os.path.join(folder, name)
                digest.update(f'{os.path.relpath(file, path)} {os.path.getsize(file)}\n'
                              .encode(errors='surrogateescape'))
    return digest.hexdigest()[:12]
