"""The folder of a fine-tuning run: nothing in it is written over unless the user says so."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.files import require_work_folder, write_json


def finished_run(folder: Path, settings: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """What ``scores.json`` holds if ``folder`` has a finished run of the same settings.

    Raises:
        UsageError: ``folder`` holds a run of other settings (a begun one counts once it has a
            checkpoint), or something else altogether.
    """
    if overwrite or not folder.exists():
        return None
    if not folder.is_dir():
        raise UsageError(f'--work-dir {folder} is a file')
    before = _read(folder / 'run.json')
    if before is None and any(folder.iterdir()):
        raise UsageError(f'{folder} holds other files than a fine-tuning run; choose another '
                         f'--work-dir, or add --overwrite')
    worth_keeping = [name for name in ('scores.json', 'last_checkpoint')
                     if (folder / name).exists()]
    different = [_words(key, before.get(key), settings[key]) for key in settings
                 if before is not None and before.get(key) != settings[key]]
    if worth_keeping and different:
        raise UsageError(f'{folder} holds a run of other settings: {", ".join(different)}; '
                         f'choose another --work-dir, or add --overwrite')
    return _read(folder / 'scores.json')


def start_run(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Note the settings; a repeated run must not be taken for finished before it is.

    Raises:
        UsageError: ``folder`` cannot be written to.
    """
    require_work_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (folder / 'scores.json').unlink(missing_ok=True)
    write_json(folder / 'run.json', settings)


def _words(key: str, before: Any, now: Any) -> str:
    if key == 'config_hash':
        return 'keys of the config'
    if key == 'backbone':
        return 'other weights'
    if key == 'like':
        return 'random weights on another network or input (--like)'
    return f'{key} {before}, not {now}'


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f'{path} is damaged ({error}); add --overwrite to run again') from error
