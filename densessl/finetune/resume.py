"""Going on with a fine-tuning run that was stopped, and stopping so that one can."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import InfiniteSampler
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from densessl.engine.checkpoint_file import damage, newest_checkpoint, note_newest
from densessl.engine.stop import StopHook
from densessl.machine.signals import outlive_signals

_OF_THE_PROCESS = ('cfg', 'experiment_name', 'loop_stage')    # not to be taken over by another


class FinetuneStopHook(StopHook):
    """Ends an evaluation after the images at hand, too. A run that counts epochs is not saved
    within one, because mmengine's loop begins epochs at their beginning: it goes on from the last
    checkpoint."""

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if self.asked and not self.group:   # several processes have unequal numbers of images
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):       # the model holds what it averaged, meanwhile
                    hook.after_val_epoch(runner)
            self.stop(runner, runner.iter)

    def save(self, runner: Runner, done: int) -> str:
        words = f'stopped after iteration {done}; add --resume to the command to go on'
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            newest = newest_checkpoint(runner.work_dir)
            return (f'{words} from {newest.name}' if newest else
                    f'stopped after iteration {done}, within the first epoch: nothing is saved')
        path = Path(runner.work_dir) / f'iter_{done}.pth'
        if not path.exists() or damage(path):
            runner.save_checkpoint(runner.work_dir, path.name, by_epoch=False,
                                   meta={'epoch': 0, 'iter': done})
        if is_main_process():   # where the libraries' own tools look
            note_newest(runner.work_dir, path)
        return words


def keep_workers(loader: DataLoader) -> None:
    """Keep a loader's workers running when a signal to the whole group asks the run to stop: the
    iteration has to be finished first."""
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(start: Callable[[int], None] | None, worker: int) -> None:
    outlive_signals()
    if start is not None:
        start(worker)


def plain_message_hub(hub: Mapping[str, Any]) -> dict[str, Any]:
    """What of a message hub's state a resumed run needs (such as the best score so far), as plain
    values that open with ``weights_only=True``; without the log's buffers."""
    info = {key: value.item() if isinstance(value, np.generic) else value
            for key, value in hub['runtime_info'].items() if key not in _OF_THE_PROCESS}
    info = {key: value for key, value in info.items() if _is_plain(value)}
    return {'log_scalars': {}, 'runtime_info': info, 'resumed_keys': dict.fromkeys(info, True)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str))


def leap_over(runner: Runner) -> None:
    """Have the sampler leap over the batches of the iterations that are done, where mmengine would
    load and drop the images of all of them (it leaps by itself in plain batches alone)."""
    loop = runner.train_loop
    loader = loop.dataloader
    sampler = getattr(loader, 'batch_sampler', None)
    if isinstance(getattr(sampler, 'sampler', None), InfiniteSampler) and hasattr(
            loop, 'dataloader_iterator'):
        # torch forbids the assignment, because an iterator may be under way: none is here yet
        vars(loader)['batch_sampler'] = _Leap(sampler, loop.iter)
        loop.dataloader_iterator.skip_iter = lambda _: None


class _Leap:
    """A batch sampler that begins ``skipped`` batches later, once."""

    def __init__(self, batches: Any, skipped: int) -> None:
        self.batches, self.skipped, self.sampler = batches, skipped, batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        skipped, self.skipped = self.skipped, 0
        yield from islice(self.batches, skipped, None)
