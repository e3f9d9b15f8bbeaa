"""mmengine's Runner, adapted in this one place."""
from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.model import MMDistributedDataParallel
from torch import nn

from densessl.devices.backends import Backends
from densessl.devices.compilation import checked_options, compile_backbones
from densessl.devices.placement import placed
from densessl.engine.checkpoint_file import (
    checkpoint_to_resume,
    newest_checkpoint,
    write_checkpoint,
)
from densessl.engine.guard import GuardedRunner
from densessl.engine.restore import check_optimizer, checked_meta, going_on, load_strictly
from densessl.engine.saving import SafeHooks, saving
from densessl.export.start import Start
from densessl.method import Method
from densessl.planning.continuing import Continuing, freeze, scale_rates
from densessl.planning.start import begin
from densessl.registry import METHODS
from densessl.training.log import write_any_name
from densessl.training.run_facts import require_same_run
from densessl.views.photometry import ViewPreprocessor
from densessl.weights.lineage import hashes_in, linked_in


def experiment_name(folder: str | Path) -> str:
    """A unique name for a run in ``folder``. mmengine keeps loggers by name for the life of the
    process, with the time in seconds: two runs of one second would share their files."""
    return f'{Path(folder).name}-{time.time_ns()}'


def last_good(folder: str | Path) -> str:
    """What a run that failed in ``folder`` can go on from, in words; '' if there is nothing."""
    newest = newest_checkpoint(folder)
    return f'the last good checkpoint is {newest}: --resume goes on from it' if newest else ''


class PretrainRunner(SafeHooks, GuardedRunner):
    """Runs a :class:`~densessl.method.Method`.

    Beyond mmengine's, it starts under ``torchrun`` on CPUs, writes checkpoints atomically and
    without Python code in them, and reads them with ``weights_only=True``.

    Args:
        provenance: plain facts about the run, kept in every checkpoint (``meta['densessl']``).
        identity: what must be the same for a resumed run to be the same run.
        start: weights that it begins with, unless it is resumed; random ones if None.
    """

    def __init__(self, *args: Any, provenance: dict[str, Any], identity: dict[str, Any],
                 start: Start | None = None, **kwargs: Any) -> None:
        self.provenance, self.identity, self.start = provenance, identity, start
        super().__init__(*args, **kwargs)
        method = getattr(self.model, 'module', self.model)
        self.provenance = {**provenance, **(facts := method.facts())}
        self.identity = {**identity, **hashes_in(facts), **method.identity()}
        self.keys_of_files = {f'model.{key}' for key in linked_in(facts)}

    def build_model(self, model: dict[str, Any]) -> Method:
        """Build the method; what brings its batches to the device is not in its signature."""
        method = METHODS.build(model)
        method.data_preprocessor = ViewPreprocessor(**self.cfg.normalization)
        return method

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Move to the device, synchronize batch norms, wrap for several processes."""
        if self.start is not None:      # before anything counts what is trained
            freeze(model, Continuing.of(self.cfg))
        model, notes = placed(model, self.cfg)
        for note in notes:
            self.logger.info(note)
        if not self.distributed:
            return model
        devices = [torch.cuda.current_device()] if get_device() == 'cuda' else None
        with warnings.catch_warnings():   # torch is renaming broadcast_buffers
            warnings.simplefilter('ignore', FutureWarning)
            return MMDistributedDataParallel(
                module=model, device_ids=devices, broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False))

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Give the stages of a backbone that was loaded their own rates."""
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if self.start is not None:
            scale_rates(wrapper, getattr(self.model, 'module', self.model),
                        Continuing.of(self.cfg))
        return wrapper

    def train(self) -> nn.Module:
        """Train, with the backends' settings that the config says; return the model."""
        with Backends.of(self.cfg).applied():
            return super().train()

    def _maybe_compile(self, target: str) -> None:
        """Compile the backbones, where mmengine would compile the whole of ``train_step``."""
        arguments = checked_options(self.cfg.get('compile'))
        if arguments is not None:
            count = compile_backbones(getattr(self.model, 'module', self.model), arguments)
            self.logger.info(f'{count} networks are compiled: the first iterations take minutes')

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *_: Any, by_epoch: bool = False,
                        meta: dict[str, Any] | None = None, save_optimizer: bool = True,
                        **__: Any) -> None:
        """Write the whole state atomically: an interrupted write leaves the old file."""
        model = getattr(self.model, 'module', self.model)
        done = self.iter + 1
        checkpoint = {
            'meta': {'epoch': 0, 'iter': done, 'seed': self.seed, 'time': time.strftime('%F %T'),
                     'identity': self.identity, 'densessl': {**self.provenance, 'iter': done}},
            'state_dict': {key: value.cpu() for key, value in model.state_dict().items()},
        }
        if save_optimizer:
            checkpoint['optimizer'] = self.optim_wrapper.state_dict()
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        with saving(Path(out_dir) / filename) as path:
            write_checkpoint(checkpoint, path)

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu',
                        strict: bool = True, revise_keys: list | None = None) -> dict[str, Any]:
        """Load weights into the model; every key must match. Nothing in the file is executed."""
        return load_strictly(self, filename, map_location)

    def resume(self, filename: str, resume_optimizer: bool = True,
               resume_param_scheduler: bool = True, map_location: str | Callable = 'default'
               ) -> None:
        """Go on where a checkpoint left off. The generators need no state: what is random is a
        function of seed and position.

        Raises:
            UsageError: it is not one of such a run.
        """
        with going_on(filename):
            # whether it is the same run first: weights of another one need not even fit
            checkpoint = load_strictly(self, filename, 'cpu', partial(
                require_same_run, identity=self.identity, files=self.keys_of_files))
            meta = checked_meta(checkpoint, filename)
            check_optimizer(checkpoint['optimizer'], self.optim_wrapper, filename)
            self.optim_wrapper.load_state_dict(checkpoint['optimizer'])
            self.train_loop._iter = meta['iter']
        self.logger.info(f'resumed {filename} after iteration {self.iter}')

    def load_or_resume(self) -> None:
        """Resume the newest whole checkpoint of ``work_dir`` if asked to and one was saved; else
        load the weights to start from, if there are any. Both come after all initialization."""
        if self._has_loaded:
            return
        newest = (checkpoint_to_resume(Path(self.work_dir), self.logger.warning)
                  if self._resume else None)
        if newest is not None:
            self.resume(str(newest))
            return
        if self._resume:
            self.logger.info(f'nothing to resume in {self.work_dir}: starting at the beginning')
        if self.start is not None:
            method = getattr(self.model, 'module', self.model)
            for line in begin(self.start, method, self.cfg.model.backbone):
                self.logger.info(f'start: {line}')

    def build_logger(self, *args: Any, **kwargs: Any) -> logging.Logger:
        """What users do not need to read goes to the log file alone."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                write_any_name(handler)
            else:
                handler.addFilter(_for_console)
        return logger


def _for_console(record: logging.LogRecord) -> bool:
    """Whether a message is for the console: not the dumps of environment, config and hooks (of
    several lines), mmengine's warnings of its own deprecated file layer, nor that a checkpoint is
    about to be saved."""
    if getattr(record, 'file_only', False):
        return False
    text = record.getMessage()
    return '\n' not in text and not any(word in text for word in (
        'FileClient', 'HardDiskBackend', 'Saving checkpoint at'))
