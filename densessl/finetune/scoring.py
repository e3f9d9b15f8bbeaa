"""The figures of an evaluation: what had nothing to score is no figure."""
from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from densessl.errors import RunFailed
from densessl.transfer.target import TransferTarget


class ScoresHook(Hook):
    """Takes the figures that had nothing to score out of each evaluation, before anybody logs,
    compares or keeps them, and ends a run that has no score at all.

    Attributes:
        scores: the headline figures of the latest evaluation.
        metrics: all of its figures.
    """

    priority = 'VERY_HIGH'

    def __init__(self, target: TransferTarget) -> None:
        self.target = target
        self.scores: dict[str, float] = {}
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        metrics = {} if metrics is None else metrics
        without = [key for key, value in metrics.items() if not self.target.is_score(key, value)]
        for key in without:
            del metrics[key]        # of the others' dict
        self.scores = self.target.main_scores(metrics)
        self.metrics = dict(metrics)
        if not self.scores:
            raise RunFailed(
                f'the evaluation on {len(runner.val_dataloader.dataset)} images had nothing to '
                f'score ({", ".join(without[:4]) or "it gave no figures"}): they hold no labels '
                f'of the classes that are scored; check the validation data')
