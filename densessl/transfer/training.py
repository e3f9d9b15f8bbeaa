"""The run itself: a complete downstream config → a trained and scored model."""
from __future__ import annotations

from typing import Any

from mmengine import Config

from densessl.engine.building import building
from densessl.engine.hooks import Interrupted
from densessl.engine.runner import experiment_name
from densessl.engine.signals import given_back_after_failure
from densessl.transfer.resume import FinetuneStopHook
from densessl.transfer.runner import FinetuneRunner, HandoffHook, ProgressHook
from densessl.transfer.target import TransferTarget
from densessl.transfer.weights import Weights


def train_and_score(cfg: Config, target: TransferTarget, weights: Weights | None,
                    check_input: bool, allow_partial: bool, attributes: dict[str, Any]
                    ) -> dict[str, Any]:
    """Train and evaluate; return scores, all metrics, and what the checks found.

    Args:
        cfg: a complete downstream config.
        check_input, allow_partial: of :class:`HandoffHook`.
        attributes: of the :class:`FinetuneRunner`.
    """
    cfg.experiment_name = experiment_name(cfg.work_dir)
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    with building('the rest'):   # what has no name of its own below
        runner = FinetuneRunner.from_cfg(cfg)
    vars(runner).update(attributes)
    handoff = HandoffHook(target, weights, check_input, allow_partial)
    progress = ProgressHook()
    # not by the config, which Runner copies and writes out
    for hook in (handoff, progress, FinetuneStopHook()):
        runner.register_hook(hook)
    with given_back_after_failure(Interrupted):    # more signals of its request are to be expected
        runner.train()
    if not progress.metrics:    # resumed at the end: it was stopped before it was scored
        runner.val_loop.run()
    scores = target.main_scores(progress.metrics)
    if not scores:
        raise RuntimeError(f'the evaluation gave no scores: {progress.metrics}')
    metrics = {key: round(float(value), 4) for key, value in progress.metrics.items()}
    return {'scores': scores, 'metrics': metrics, 'handoff': handoff.report,
            'iterations': runner.iter,
            'resumed_from': runner.resume_from.name if runner.resume_from else None}
