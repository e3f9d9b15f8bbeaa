"""The demo's scores side by side, and in one plain sentence."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densessl.demo.run import Demo


@dataclass(frozen=True)
class ScoreLine:
    """One headline score of one downstream model, from both weights."""

    model: str
    task: str
    score: str
    random: float
    pretrained: float


def score_lines(demo: Demo, measured: Mapping[str, Any]) -> list[ScoreLine]:
    """The headline scores in the order of the demo's config.

    Args:
        measured: what each fine-tuning run wrote down, by ``densessl.demo.run.stage_name``.
    """
    from densessl.demo.run import PRETRAINED, RANDOM, stage_name
    lines = []
    for part in demo.cfg.finetuning:
        random, pretrained = (measured[stage_name(part, weights)]['scores']
                              for weights in (RANDOM, PRETRAINED))
        lines += [ScoreLine(part.name, part.task, name, random[name], pretrained[name])
                  for name in part.scores]
    return lines


def difference(line: ScoreLine) -> str:
    """``+4.2``, ``−0.3`` or ``0.0``: pretrained minus random, of the figures as printed."""
    change = round(line.pretrained, 1) - round(line.random, 1)
    return f'{change:+.1f}'.replace('-', '−') if abs(change) > 0.04 else '0.0'


def sentence(demo: Demo, part: Any, measured: Mapping[str, Any]) -> str:
    """What was measured for one downstream model, in words that claim no more than that."""
    from densessl.demo.run import RANDOM, stage_name
    sample, name = demo.cfg.sample, demo.cfg.pretraining.name
    labelled = max(1, round(part.fraction * sample.train))
    iterations = measured[stage_name(part, RANDOM)]['iterations']
    figures = '; '.join(
        f'{line.score} {line.random:.1f} from random weights, {line.pretrained:.1f} from {name} '
        f'weights ({difference(line)})' for line in score_lines(demo, measured)
        if line.model == part.name)
    return (f'{part.name}, fine-tuned on {labelled} labelled scenes for {iterations} iterations '
            f'and scored on {sample.val} others: {figures}.')


def caveat(demo: Demo) -> str:
    """What the scores do not tell."""
    if demo.quick:
        return ('This was a quick run: everything is so small that its scores only show that the '
                'pipeline works.')
    return (f'Data, settings and seed ({demo.seed}) were the same for both; only the initial '
            f'weights differ. It is one run of one seed: how much the figures vary from seed to '
            f'seed was not measured, and drawn scenes are not your images.')
