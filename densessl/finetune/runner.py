"""mmengine's Runner for downstream configs: a short console, verified weights, kept scores."""
from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from densessl.engine.guard import GuardedRunner
from densessl.engine.restore import (
    check_optimizer,
    check_schedulers,
    checked_hub,
    checked_meta,
    going_on,
    load_strictly,
)
from densessl.engine.saving import SafeHooks, saving
from densessl.environment import building
from densessl.errors import UsageError
from densessl.files.writing import replacing
from densessl.finetune.resume import keep_workers, leap_over, plain_message_hub
from densessl.finetune.sample_failures import name_failures
from densessl.finetune.schedule import check_warmups, shorten_warmups
from densessl.finetune.weights import Weights
from densessl.training.log import write_any_name
from densessl.transfer.handoff import compare_features, compare_input, compare_keys
from densessl.transfer.target import TransferTarget


class FinetuneRunner(SafeHooks, GuardedRunner):
    """The dumps of environment, config and hooks, and warnings of libraries, go to the log file;
    the console keeps to the lines of this module's hooks. Checkpoints are written atomically and
    read without executing anything in them; stock tools can go on with them."""

    resume_from: Path | None = None
    """The checkpoint to go on from."""
    fit_warmup: bool = True
    """Whether a warm-up may be shortened to fit the run."""

    def build_logger(self, *args: Any, **kwargs: Any) -> logging.Logger:
        logger = super().build_logger(*args, **kwargs)
        files = [handler for handler in logger.handlers
                 if isinstance(handler, logging.FileHandler)]
        for handler in logger.handlers:
            if handler in files:
                write_any_name(handler)
            else:
                handler.setLevel(logging.ERROR)
        warnings_log = logging.getLogger('py.warnings')   # Python's own name for them
        warnings_log.handlers, warnings_log.propagate = files, False
        logging.captureWarnings(True)
        return logger

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        loader = Runner.build_dataloader(*args, **kwargs)
        name_failures(loader.dataset)      # no worker has been started yet
        keep_workers(loader)
        return loader

    def train(self) -> nn.Module:
        try:
            return super().train()
        finally:
            logging.captureWarnings(False)

    def load_or_resume(self) -> None:
        """Hooks look at the weights that the model was initialized with before those of a
        checkpoint replace them."""
        self.call_hook('after_init_weights')
        if self.resume_from is None:
            super().load_or_resume()
            return
        self.resume(str(self.resume_from))
        leap_over(self)
        say(self, f'resumed {self.resume_from} after iteration {self.iter}')

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = True,
                        revise_keys: Any = None) -> dict[str, Any]:
        """Load weights into the model; every key must match."""
        checkpoint = load_strictly(self, filename, map_location)
        hub = checkpoint.get('message_hub', {'runtime_info': {}})   # densessl 0.1.0 left it out
        check_optimizer(checkpoint.get('optimizer'), self.optim_wrapper, filename)
        check_schedulers(checkpoint.get('param_schedulers'), self.param_schedulers, filename)
        return {**checkpoint, 'meta': checked_meta(checkpoint, filename),
                'message_hub': checked_hub(hub, filename, self.work_dir)}

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on where a checkpoint left off; nothing in the file is executed.

        Raises:
            UsageError: it is not one of such a run.
        """
        with going_on(filename):
            super().resume(filename, *args, **kwargs)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write beside the place and rename into it: an interrupted write leaves the old file.

        Raises:
            RunFailed: it could not be written, because the disk is full, say.
        """
        if not Path(out_dir).is_dir():     # some other storage, by an option of the checkpoint hook
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
        elif is_main_process():            # mmengine's writes nothing in the others
            with saving(Path(out_dir) / filename) as path, replacing(path) as unfinished:
                super().save_checkpoint(out_dir, unfinished.name, *args, **kwargs)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        if self.fit_warmup and isinstance(self.train_loop, EpochBasedTrainLoop):
            with building('param_scheduler'):
                for line in shorten_warmups(scheduler, self.max_iters):
                    say(self, f'schedule: {line}')
        check_warmups(scheduler, self.max_iters, self.max_epochs)
        return super().build_param_scheduler(scheduler)


class HandoffHook(Hook):
    """Checks, once the model is initialized with the weights, that they arrived
    (:mod:`densessl.transfer.handoff`); of a resumed run, too, before it takes over those that were
    trained.

    Args:
        target: the library of the model.
        weights: what was placed into the config; None for random initialization.
        check_input: whether mean, std and channel order have to be the pretraining's.
        allow_partial: report instead of stopping.
    """

    def __init__(self, target: TransferTarget, weights: Weights | None, check_input: bool,
                 allow_partial: bool) -> None:
        self.target, self.weights = target, weights
        self.check_input, self.allow_partial = check_input, allow_partial
        self.report: dict[str, Any] = {}

    def after_init_weights(self, runner: Runner) -> None:
        """Called by :class:`FinetuneRunner`."""
        if self.weights is None:
            say(runner, 'weights: random initialization, nothing to check')
            return
        model = getattr(runner.model, 'module', runner.model)
        self._check_keys(runner, model, self.weights)
        if self.check_input:
            self._check_input(runner, model, self.weights)
        self._check_features(runner, model, self.weights)

    def _check_keys(self, runner: Runner, model: nn.Module, weights: Weights) -> None:
        modules = self.target.backbone_modules(model)
        backbone = next(iter(modules.values()))
        keys = compare_keys(weights.placed, modules,
                            self.target.added_modules(backbone, weights.placed))
        self.report['keys'] = keys.counts()
        say(runner, f'weights: {keys.summary()}', keys.table())
        if not self.allow_partial:
            keys.require_complete(weights.source, self.target.name)

    def _check_input(self, runner: Runner, model: nn.Module, weights: Weights) -> None:
        difference = compare_input(model, weights.meta, self.target.channel_order)
        self.report['input'] = difference
        say(runner, f'input check: normalized images differ by {difference:.1e}')
        if difference > 1e-3 and not self.allow_partial:
            raise UsageError(
                f'the {self.target.name} model sees other images than the pretraining: they differ '
                f'by {difference:.2g} after normalization. Likely causes: mean and std, or the '
                f'channel order (bgr_to_rgb) of its data_preprocessor')

    def _check_features(self, runner: Runner, model: nn.Module, weights: Weights) -> None:
        features = self.target.features(model)
        check = compare_features(weights.state, weights.meta, features,
                                 self.target.added_modules(features, weights.placed))
        self.report['features'] = {'stages': check.stages, 'restrided': check.restrided,
                                   'differences': check.differences}
        say(runner, f'function check: {check.summary()}')
        if not self.allow_partial:
            check.require_equal(self.target.name)


class ProgressHook(Hook):
    """A line about every tenth of the run (at least every 50 iterations of a long one)."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.started, self.first = 0.0, 0
        self.every = 1

    def before_train(self, runner: Runner) -> None:
        self.started, self.first = time.perf_counter(), runner.iter
        self.every = min(50, max(1, runner.max_iters // 10))
        sizes = [(one.numel(), one.requires_grad) for one in runner.model.parameters()]
        trained, total = (sum(size for size, on in sizes if on or every) for every in (False, True))
        say(runner, f'training {trained / 1e6:.2f} of {total / 1e6:.2f} million parameters')

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        done = runner.iter + 1
        if done % self.every and done != runner.max_iters:
            return
        each = (time.perf_counter() - self.started) / (done - self.first)
        left = timedelta(seconds=round(each * (runner.max_iters - done)))
        loss = runner.message_hub.get_scalar('train/loss').mean(self.every)
        say(runner, f'{done:>6}/{runner.max_iters}  loss {loss:.4f}  {each:.2f} s an iteration  '
                    f'{left} left')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Without the buffers of the log: what is left opens with ``weights_only=True``."""
        checkpoint['message_hub'] = plain_message_hub(checkpoint['message_hub'])

    def before_val(self, runner: Runner) -> None:
        say(runner, f'evaluating on {len(runner.val_dataloader.dataset)} images')


def say(runner: Runner, text: str, table: Any = None) -> None:
    """Write to the console and to the log file, once for all processes."""
    runner.logger.info(text)
    if is_main_process():
        console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        console.print(text, markup=False)
        if table is not None:
            console.print(table)
