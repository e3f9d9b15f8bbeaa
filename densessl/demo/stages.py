"""Work in named stages inside one folder: announced, timed, and not repeated when it is done.

``demo.json`` in the folder keeps for each stage a key (a hash of its settings and of the stages it
builds on), whether it is finished, how long it took and what it found.
"""
from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from densessl.bounds import allows, is_number
from densessl.errors import RunFailed, UsageError, shown
from densessl.files.json_files import parse_json, write_json
from densessl.planning.decisive_settings import digest_of
from densessl.progress import duration

LEDGER = 'demo.json'
FORMAT = 1


class StageFailed(RuntimeError):
    """A stage failed while running; the cause is chained."""


class Stages:
    """The stages of one folder, in the order in which :meth:`run` is called.

    Args:
        folder: everything is kept here; created if it is missing.
        total: how many stages there will be, for the numbers that are printed.
        fresh: forget what was done before and delete it.

    Raises:
        UsageError: ``folder`` has files but no readable ledger, so they may be somebody's own.
    """

    def __init__(self, folder: Path, total: int, *, fresh: bool = False) -> None:
        self.folder, self.total, self.number = folder, total, 0
        self.called: list[str] = []     # not those that an older demo left in the ledger
        self.records: dict[str, dict[str, Any]] = self._open()
        if fresh:
            for record in self.records.values():
                self._delete(record.get('owns', []))
            self.records = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._save()
        except OSError as error:
            raise UsageError(f'cannot write to {folder}: {error.strerror}') from error

    def run(self, name: str, title: str, work: Callable[[bool], dict[str, Any]], *,
            settings: Any = None, after: Sequence[str] = (), owns: Sequence[str] = (),
            needs: Sequence[str] = (), again: bool = False) -> dict[str, Any]:
        """Do a stage, unless it was done with the same settings and its outputs are there.

        Args:
            work: does it and returns what JSON can hold; is is told whether an unfinished attempt
                with the same settings was left behind.
            settings: what decides the result, as JSON can hold it.
            after: names of the stages it builds on.
            owns: what it writes, relative to the folder; deleted when it is done with other
                settings.
            needs: the files that must be there for it to count as done.
            again: do it every time.

        Raises:
            UsageError, RunFailed, StageFailed: with the stage's name.
        """
        self.number += 1
        self.called.append(name)
        print(f'\n[{self.number}/{self.total}] {title}', flush=True)
        key = digest_of([name, settings, [self.records[other]['key'] for other in after]], 16)
        before = self.records.get(name, {})
        same = before.get('key') == key
        outputs_exist = all(is_whole(self.folder / path) for path in needs)
        if same and before.get('done') and outputs_exist and not again:
            print(f'      done before, in {duration(before["seconds"])}', flush=True)
            return before['found']
        if before and not same:
            print('      the settings have changed since it was done', flush=True)
        if not same:
            self._delete(owns)
        record = {'key': key, 'done': False, 'owns': list(owns), 'settings': settings,
                  'seconds': before.get('seconds', 0.0) if same and not before.get('done') else 0.0}
        self.records[name] = record
        self._save()
        record['found'] = self._time(name, record, lambda: work(same))
        record['done'] = True
        self._save()
        print(f'      done in {duration(record["seconds"])}', flush=True)
        return record['found']

    def seconds(self) -> dict[str, float]:
        """How long each stage took, over all attempts."""
        return {name: self.records[name]['seconds'] for name in self.called}

    def _time(self, name: str, record: dict[str, Any], work: Callable[[], Any]) -> Any:
        start = time.monotonic()
        try:
            return json.loads(json.dumps(work()))
        except (UsageError, RunFailed) as error:
            kind = UsageError if isinstance(error, UsageError) else RunFailed
            raise kind(f'stage {self.number}/{self.total}, {name}: {error}') from error
        except Exception as error:
            raise StageFailed(f'stage {self.number}/{self.total}, {name}, failed: '
                              f'{type(error).__name__}: {error}') from error
        finally:
            record['seconds'] = round(record['seconds'] + time.monotonic() - start, 1)
            self._save()

    def _open(self) -> dict[str, Any]:
        path = self.folder / LEDGER
        if not self.folder.is_dir():
            if self.folder.exists():
                raise UsageError(f'{self.folder} is a file; --out must be a folder')
            return {}
        if not path.exists():
            if any(self.folder.iterdir()):
                raise UsageError(f'{self.folder} holds other files and no {LEDGER}, so it is left '
                                 f'as it is; choose another folder with --out')
            return {}
        try:
            ledger = parse_json(path.read_bytes())
            if ledger['format'] != FORMAT:
                raise ValueError(f'its format is {shown(ledger["format"])}, not {FORMAT}')
            if not all(map(_is_record, ledger['stages'].values())):
                raise ValueError('a stage is not recorded as this program does')
            return ledger['stages']
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f'{path} cannot be used ({error}); choose another folder with --out, '
                             f'or delete this one') from error

    def _save(self) -> None:
        write_json(self.folder / LEDGER, {'format': FORMAT, 'stages': self.records})

    def _delete(self, owned: Sequence[str]) -> None:
        """Delete what a stage wrote; nothing outside the folder, whatever the ledger says."""
        for name in owned:
            path = self.folder / name
            if self.folder.resolve() not in path.resolve().parents:
                raise UsageError(f'{self.folder / LEDGER} names {name!r}, which is outside of '
                                 f'{self.folder}; nothing is deleted')
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether an output of a stage is there: a folder, or a file with something in it."""
    return path.exists() and (path.is_dir() or path.stat().st_size > 0)


def _is_record(record: Any) -> bool:
    """Whether a ledger's record can be trusted: what it owns are names, its seconds a number."""
    return (isinstance(record, dict) and allows(Sequence[str], record.get('owns', []))
            and is_number(record.get('seconds', 0)))
