"""From a recipe to the numbers of a run: epochs, batch, learning rate, steps."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine import Config
from torch.nn.modules.batchnorm import _BatchNorm

from densessl.errors import UsageError
from densessl.method import Method
from densessl.overrides import apply_row
from densessl.planning.learning_rate import Schedule, schedule_of
from densessl.registry import METHODS

MOST_EPOCHS = 10 ** 6
PATIENCE = 30        # minutes that a process waits for the others


@dataclass(frozen=True)
class Plan:
    """What a run will really do.

    Attributes:
        batch_size: images per process and iteration.
        global_batch: images per optimizer update, over processes.
        lr: the peak learning rate, base_lr · global_batch / reference_batch.
        accumulate: iterations an optimizer update.
        steps: optimizer updates.
        factor: the learning rate's factor at a step.
        notes: what differs from the recipe, a line each.
    """

    epochs: float
    batch_size: int
    global_batch: int
    accumulate: int
    lr: float
    steps: int
    warmup_steps: int
    factor: Schedule
    notes: tuple[str, ...]


def choose_row(cfg: Config, epochs: float | None) -> float:
    """Apply the row of ``cfg.recipe`` for ``epochs`` to ``cfg``: the row with the most epochs not
    above it, else the smallest. Returns the number of epochs."""
    epochs = cfg.epochs if epochs is None else epochs
    if not 0 < epochs <= MOST_EPOCHS:     # NaN is in no range
        raise UsageError(f'--epochs {epochs}: above 0 and at most {MOST_EPOCHS}')
    rows = cfg.get('recipe') or {}
    if rows:
        fitting = [row for row in rows if row <= epochs]
        row = max(fitting) if fitting else min(rows)
        apply_row(cfg, f'recipe.{row}', rows[row])
    return epochs


def make_plan(cfg: Config, chosen: Mapping[str, Any] | None = None, *, epochs: float, images: int,
              processes: int) -> Plan:
    """Derive the numbers of a run from the recipe in ``cfg`` and the hardware that is there.

    The recipe states the global batch; a process takes its share of it, unless
    ``train_dataloader.batch_size`` says otherwise: then the global batch is what that makes it,
    and the learning rate follows by the recipe's linear rule. A recipe's warm-up takes at most a
    tenth of the run; one that the user chose is taken as it is.

    Args:
        chosen: the user's overrides by dotted key.

    Raises:
        UsageError: numbers that do not fit each other or the images.
    """
    chosen = chosen or {}
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch_size = (cfg.train_dataloader.get('batch_size')
                  or _share(cfg.global_batch, processes * accumulate))
    global_batch = batch_size * processes * accumulate
    steps = max(1, int(epochs * images // global_batch))
    if 'global_batch' in chosen and global_batch != cfg.global_batch:
        raise UsageError(f'global_batch {cfg.global_batch}: train_dataloader.batch_size × '
                         f'processes × accumulation makes {global_batch}; leave one of the two out')
    warmup_epochs = cfg.schedule.warmup_epochs
    if 'schedule.warmup_epochs' in chosen:
        if warmup_epochs >= epochs:
            raise UsageError(f'schedule.warmup_epochs {warmup_epochs:g}: the whole run has '
                             f'{epochs:g} epochs; choose a shorter warm-up')
    elif epochs not in _published(cfg):     # a shorter run than the recipe's warms up for less
        warmup_epochs = min(warmup_epochs, epochs / 10)
    warmup_steps = int(warmup_epochs * images // global_batch)   # rounded down, as released
    lr = cfg.schedule.base_lr * global_batch / cfg.schedule.reference_batch    # the linear rule
    factor = schedule_of(cfg.schedule, steps, warmup_steps, steps / epochs)
    return Plan(epochs, batch_size, global_batch, accumulate, lr, steps, warmup_steps, factor,
                tuple(_differences(cfg, epochs, global_batch, warmup_epochs)))


def require_enough_images(plan: Plan, images: int) -> None:
    """Raise UsageError if a batch would hold the same image several times."""
    if plan.global_batch > images:
        raise UsageError(f'global_batch {plan.global_batch} is more than the {images} images, so '
                         f'that a batch would hold the same image several times; give '
                         f'--cfg-options train_dataloader.batch_size=N, or more images')


def _share(global_batch: int, processes: int) -> int:
    if global_batch % processes:
        raise UsageError(f'global_batch {global_batch} cannot be shared by {processes} '
                         f'(processes × accumulation); give --cfg-options '
                         f'train_dataloader.batch_size=N')
    return global_batch // processes


def _differences(cfg: Config, epochs: float, global_batch: int, warmup_epochs: float) -> list[str]:
    notes: list[str] = []
    if global_batch != cfg.global_batch:
        notes.append(f'batch {global_batch} instead of {cfg.global_batch}')
    if epochs not in (published := _published(cfg)):
        notes.append(f'{epochs:g} epochs instead of {" or ".join(map(str, published))}')
    if warmup_epochs != cfg.schedule.warmup_epochs:
        notes.append(f'{warmup_epochs:g} warm-up epochs instead of {cfg.schedule.warmup_epochs}')
    return notes


def _published(cfg: Config) -> list[int]:
    """The numbers of epochs that the recipe has rows for."""
    return list(cfg.get('recipe') or [cfg.epochs])


def refuse_small_batches(cfg: Config, method: type[Method], plan: Plan, processes: int,
                         allow_smaller_negatives: bool) -> None:
    """Refuse batches that teach something other than the recipe's: of one image where there is
    batch norm, and accumulated ones where images of a batch meet, as negatives or in batch norm.

    Raises:
        UsageError: the batch is one of these.
    """
    together = plan.batch_size * (processes if cfg.get('sync_bn') else 1)
    if together > 1 and (plan.accumulate == 1 or allow_smaller_negatives):
        return
    normed = any(isinstance(module, _BatchNorm)
                 for module in METHODS.build(cfg.model.to_dict()).modules())
    if together == 1 and normed:
        raise UsageError(
            f'{cfg.model.type} has batch norms, which need at least 2 images; a process has 1: '
            f'raise global_batch (now {plan.global_batch}) or train_dataloader.batch_size')
    meet = [words for words, applies in (
        ('an anchor would meet the negatives', method.batch_negatives),
        ('batch norm would see the statistics', normed)) if applies]
    if meet and plan.accumulate > 1 and not allow_smaller_negatives:
        raise UsageError(
            f'optim_wrapper.accumulative_counts {plan.accumulate}: {" and ".join(meet)} of '
            f'{plan.global_batch // plan.accumulate} images, not of {plan.global_batch}; use more '
            f'processes, or accept it with --allow-smaller-negatives')
