"""The run itself: a complete downstream config → a trained and scored model."""
from __future__ import annotations

from typing import Any

from mmengine import Config

from densessl.engine.finite import FiniteHook
from densessl.engine.guard import building
from densessl.engine.stop import given_back_after_failure
from densessl.environment import saying
from densessl.finetune.resume import FinetuneStopHook, newest_of_run
from densessl.finetune.runner import FinetuneRunner, HandoffHook, ProgressHook
from densessl.finetune.scoring import ScoresHook
from densessl.finetune.weights import Weights
from densessl.training.hooks import Interrupted
from densessl.training.runner import experiment_name
from densessl.transfer.target import TransferTarget


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
    scored = ScoresHook(target)
    # not by the config, which Runner copies and writes out
    for hook in (FiniteHook(), scored, handoff, ProgressHook(), FinetuneStopHook()):
        runner.register_hook(hook)
    # more signals of its request are to be expected
    with given_back_after_failure(Interrupted), saying(lambda: _kept(runner.work_dir)):
        runner.train()
        if not scored.scores:   # resumed at the end: it was stopped before it was scored
            runner.val_loop.run()
    metrics = {key: round(float(value), 4) for key, value in scored.metrics.items()}
    return {'scores': scored.scores, 'metrics': metrics, 'handoff': handoff.report,
            'iterations': runner.iter,
            'resumed_from': runner.resume_from.name if runner.resume_from else None}


def _kept(work_dir: str) -> str:
    newest = newest_of_run(work_dir)
    return f'the last good checkpoint is {newest}: --resume goes on from it' if newest else ''
