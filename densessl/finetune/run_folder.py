"""The folder of a fine-tuning run: nothing in it is written over unless the user says so."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.engine.checkpoint_file import LAST, checkpoint_to_resume, newest_checkpoint
from densessl.errors import UsageError, shown
from densessl.files.folders import require_work_folder
from densessl.files.json_files import read_json_object, write_json
from densessl.files.lock import RUNNING
from densessl.files.writing import is_leftover, remove_leftovers
from densessl.planning.decisive_settings import changes, digest_of, leaves_of

SCORES = 'scores.json'
RECORD = 'run.json'     # in a work folder: the settings of its run
DATA = 'labelled'   # in it: densessl.finetune.labelled_data.data_digest
BEGUN = 'begun'     # in it: when, in seconds since 1970; logs from before are of another run
_IN_WORDS = {     # settings whose values would tell a reader nothing
    'config_hash': 'keys of the config', 'backbone': 'other weights',
    'like': 'random weights on another network or input (--like)',
    DATA: 'images or labels of the data set have changed since'}
_LATER = ('input', DATA)    # runs that were recorded before these count as equal in them
_DECISIVE = ('labels', 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper',
             'param_scheduler', 'custom_hooks', 'auto_scale_lr')
_FREE = tuple(f'train_dataloader.{key}' for key in (
    'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')) + tuple(
    f'train_cfg.{key}' for key in ('val_interval', 'val_begin', 'dynamic_intervals'))


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
    before = read_record(folder / RECORD)
    if before is None and any(path.name != RUNNING and not is_leftover(path.name)
                              for path in folder.iterdir()):
        raise UsageError(f'{folder} holds other files than a fine-tuning run; choose another '
                         f'--work-dir, or add --overwrite')
    worth_keeping = [name for name in (SCORES, LAST) if (folder / name).exists()]
    different = [_IN_WORDS.get(key, f'{key} {before.get(key)}, not {now}')
                 for key, now in settings.items()
                 if before is not None and before.get(
                     key, now if key in _LATER else None) != now]
    if worth_keeping and different:
        raise UsageError(f'{folder} holds a run of other settings: {", ".join(different)}; '
                         f'choose another --work-dir, or add --overwrite')
    return read_scores(folder) if (folder / SCORES).is_file() else None


def run_to_resume(folder: Path, settings: dict[str, Any], values: dict[str, Any]) -> Path | None:
    """The newest checkpoint of the unfinished run in ``folder``, whole or not; None if there is
    nothing to go on from.

    Args:
        settings: of this run.
        values: :func:`decisive_values` of its config.

    Raises:
        UsageError: that run is another one; the message names the first setting that differs.
    """
    newest = newest_checkpoint(folder)
    before = read_record(folder / RECORD)
    if newest is None or before is None or (folder / SCORES).exists():
        return None
    was, now = {**before, 'input': before.get('input', settings.get('input'))}, dict(settings)
    for key in (BEGUN, DATA):
        was.pop(key, None)
    if 'values' in before:      # they tell more than the digest of the whole config
        was.update(was.pop('values'), config_hash=None)
        now.update(values, config_hash=None)
    for key, old, new in changes(was, now):
        raise UsageError(f'cannot resume {newest}: it was made with {key} {old}, this run has '
                         f'{new}; give the same value, or start anew in another --work-dir')
    return newest


def earlier_run(folder: Path, settings: dict[str, Any], values: dict[str, Any], resume: bool,
                overwrite: bool, say: Callable[[str], None] = print
                ) -> tuple[dict[str, Any] | None, Path | None]:
    """What an earlier run left in ``folder`` for one of the same settings: what ``scores.json``
    holds, or the checkpoint to go on from, or neither.

    Raises:
        UsageError: there is a run of other settings, or an unfinished one and nothing says what
            becomes of it, or what it had saved is gone or damaged.
    """
    if resume and overwrite:
        raise UsageError('--resume goes on with a run and --overwrite starts it anew: give one')
    checkpoint = run_to_resume(folder, settings, values) if resume else None
    before = read_record(folder / RECORD) if resume else None
    if before is not None and not (folder / SCORES).exists():
        checkpoint = checkpoint_to_resume(folder, say, since=_begun(before), remedy='start anew '
                                          'with --overwrite or in another --work-dir')
    done = None if checkpoint else finished_run(folder, settings, overwrite)
    newest = newest_checkpoint(folder)
    if newest and not (checkpoint or done or overwrite):
        raise UsageError(f'{folder} already holds a run ({newest.name}): add --resume to go on, '
                         f'--overwrite to start anew, or choose another --work-dir')
    return done, checkpoint


def _begun(record: dict[str, Any]) -> float:
    begun = record.get(BEGUN)
    return begun if isinstance(begun, (int, float)) else 0.0


def config_digest(cfg: Config) -> str:
    """Twelve digits that change with any value of a config."""
    return digest_of(cfg.to_dict())


def decisive_values(cfg: Config) -> dict[str, Any]:
    """What of a downstream config decides the weights that come out, by dotted key."""
    return {key: value for key, value in leaves_of(cfg, _DECISIVE).items()
            if not key.startswith(_FREE)}


def start_run(folder: Path, settings: dict[str, Any], overwrite: bool,
              values: dict[str, Any] | None = None, *, clean: bool = False) -> None:
    """Note the settings; with ``clean``, which needs the folder's lock, first remove what killed
    writes left behind. What is left of a run that is made again goes: neither must it be taken
    for finished before it is, nor go on from the other's checkpoint.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    require_work_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if clean:
        remove_leftovers(folder)
    if overwrite:
        for name in (SCORES, LAST, 'iter_*.pth', 'epoch_*.pth', 'best_*.pth'):
            for path in folder.glob(name):
                path.unlink(missing_ok=True)   # another process may be faster
    before = None if overwrite else read_record(folder / RECORD)
    begun = _begun(before) if before else time.time()
    write_json(folder / RECORD, {**settings, 'values': values or {}, BEGUN: begun})


def read_scores(folder: Path, needs: Iterable[str] = (), *,
                remedy: str = 'add --overwrite to run again') -> dict[str, Any]:
    """What the finished run in ``folder`` wrote: its ``scores`` by name, None for one that there is
    none of, and the numbers ``needs``.

    Raises:
        UsageError: it is missing or damaged.
    """
    path = folder / SCORES
    record = read_json_object(path, ['scores', *needs], remedy=remedy)
    scores = record['scores']
    if not (isinstance(scores, dict) and all(map(_is_figure, scores.values()))
            and all(_is_figure(record[key]) and record[key] is not None for key in needs)):
        odd = {key: record[key] for key in ('scores', *needs)}
        raise UsageError(f'{path} is damaged: it says {shown(odd)}, not figures; {remedy}')
    return record


def score_words(scores: dict[str, float | None]) -> str:
    """Scores as messages tell them."""
    return '  '.join(f'{name} ' + ('none' if value is None else f'{value:.2f}')
                     for name, value in scores.items())


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def read_record(path: Path) -> dict[str, Any] | None:
    """What a run wrote as JSON; None if there is no such file.

    Raises:
        UsageError: it is damaged.
    """
    if not path.is_file():
        return None
    return read_json_object(path, remedy='add --overwrite to run again')
