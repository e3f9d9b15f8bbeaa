"""mmengine's checkpoint hook deletes first and saves afterwards. Here outdated checkpoints go last:
at any moment, even after a kill or on a full disk, the newest checkpoint is whole."""
from __future__ import annotations

import hashlib
import pickle
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from densessl.engine.checkpoint_file import (
    SAVED,
    damage,
    note_newest,
    read_checkpoint,
    write_checkpoint,
)
from densessl.engine.restore import checked_hub
from densessl.environment import explain
from densessl.errors import RunFailed


class PrunesAfterSaving(CheckpointHook):
    """Deletes old checkpoints after the new one is in its place and was read back. In a folder on
    this machine all checkpoints of the run count, also those of earlier starts and of stops by a
    signal."""

    @property
    def folder(self) -> Path | None:
        """Where checkpoints go, if not to some other storage by an option of the hook."""
        return Path(self.out_dir) if self.out_dir and Path(self.out_dir).is_dir() else None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if isinstance(self.file_backend, LocalBackend):     # the first is saved as the others
            Path(self.out_dir).mkdir(parents=True, exist_ok=True)
        if not (self.folder and is_main_process() and runner.iter):
            return
        if self.save_best:
            self._recall_best(runner)
        if self.max_keep_ckpts > 0:     # killed before it came to that; the newest was verified
            done = runner.epoch if self.by_epoch else runner.iter
            for step in sorted(self._steps_before(done + 1))[:-self.max_keep_ckpts]:
                self._remove(str(self.folder / self.filename_tmpl.format(step)))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            steps = sorted({*self.keep_ckpt_ids, *self._steps_before(step), step})
            outdated, kept = steps[:-self.max_keep_ckpts], steps[-self.max_keep_ckpts:]
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
            backend_args=self.backend_args, **self.args)
        if not is_main_process():
            return
        note_newest(runner.work_dir, self.last_ckpt)
        runner.logger.info(f'{SAVED}{name}')
        wrong = self.folder and damage(self.folder / name)
        if wrong:
            runner.logger.error(f'{self.last_ckpt} did not arrive whole on the disk: {wrong}; the '
                                f'checkpoints before it are kept')
            return
        for one in outdated:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(one)))

    def _steps_before(self, step: int) -> list[int]:
        """The numbers of the checkpoints in the folder. Later ones, from which the run did not
        continue, are written over in time."""
        if self.folder is None:
            return []
        name = re.compile(self._numbers())
        found = (name.fullmatch(path.name) for path in self.folder.iterdir())
        return [int(match[1]) for match in found if match and int(match[1]) < step]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        backend, later = self.file_backend, _RemovesLater(self.file_backend)
        self.file_backend = later
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = (getattr(self, 'best_ckpt_path', None),
                *getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in later.paths:
            if path not in best:        # saved again under the same name
                self._remove(path)

    def _recall_best(self, runner: Runner) -> None:
        """A run that was killed after it saved a best checkpoint and before the next ordinary one,
        which records it, has forgotten it; its file still says so. Those that it outdid go."""
        done = runner.epoch if self.by_epoch else runner.iter
        name = re.compile('best_(.+)_' + self._numbers())
        found: dict[str, dict[int, Path]] = {}      # by the measure, as in file names
        for path in self.folder.iterdir():
            match = name.fullmatch(path.name)
            if match and int(match[2]) <= done and not damage(path):
                found.setdefault(match[1], {})[int(match[2])] = path
        for key in self.key_indicators:
            single = len(self.key_indicators) == 1
            suffix = '' if single else f'_{key}'
            measure = next(iter(found), '') if key == 'auto' else key.replace('/', '_')
            paths = found.get(measure, {})
            newest = paths.pop(max(paths)) if paths else None
            hub = newest and checked_hub(read_checkpoint(newest).get(
                'message_hub', {'runtime_info': {}}), newest, self.folder)['runtime_info']
            if not hub or f'best_score{suffix}' not in hub:
                continue
            runner.message_hub.update_info(f'best_score{suffix}', hub[f'best_score{suffix}'])
            runner.message_hub.update_info(f'best_ckpt{suffix}', str(newest))
            if single:
                self.best_ckpt_path = str(newest)
            else:
                self.best_ckpt_path_dict[key] = str(newest)
            for path in paths.values():
                self._remove(str(path))

    def _numbers(self) -> str:
        """A pattern of the names of this hook's checkpoints; its last group is the number."""
        return r'(\d+)'.join(map(re.escape, self.filename_tmpl.split('{}')))

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):     # some strategies of training save folders
            self.file_backend.rmtree(path)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        path = Path(ckpt_path)
        if not path.is_file():
            super()._publish_model(runner, ckpt_path)
            return
        content = {key: value for key, value in read_checkpoint(path).items()
                   if key in self.published_keys}
        digest = hashlib.sha256(pickle.dumps(content)).hexdigest()[:8]
        with saving(path.with_name(f'{path.stem}-{digest}.pth')) as published:
            write_checkpoint(content, published)
        runner.logger.info(f'{path} is published as {published.name}')


class _RemovesLater:
    """A file backend that notes what it is to remove."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)

    rmtree = remove


class SafeHooks(Runner):
    """A runner whose checkpoint hooks, the stock one and what is derived from it, prune after they
    have saved."""

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        super().register_hook(hook, priority)
        for one in self._hooks:
            if isinstance(one, CheckpointHook) and not isinstance(one, PrunesAfterSaving):
                # it is built already: a config names its class, or one derived from it, and
                # mmengine offers no place between
                kind = type(one)
                one.__class__ = type(kind.__name__, (PrunesAfterSaving, kind), {})


@contextmanager
def saving(path: Path) -> Iterator[Path]:
    """Within, a checkpoint is written to ``path``.

    Raises:
        RunFailed: the system could not write it; one line says why. (The training adds what is
            kept: :func:`densessl.environment.saying`.)
    """
    try:
        yield path
    except OSError as error:
        unnamed = OSError(error.errno, error.strerror) if error.errno else error
        raise RunFailed(f'cannot save {path}: {explain(unnamed) or error}') from error
