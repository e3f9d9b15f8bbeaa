"""The demo's scores side by side, and what they say in one plain sentence."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from densessl.benchmark.statistics import PairedTest, paired_test
from densessl.demo.demo import BOTH, PRETRAINED, PROBE, RANDOM, Demo, run_name
from densessl.probes.differences import signed

# what pretraining did, by ScoreLine.finding
DID = {1: 'helped', -1: 'did harm', 0: 'made no difference that can be told from chance'}


@dataclass(frozen=True)
class ScoreLine:
    """One headline score from both weights, repetition by repetition."""

    model: str
    score: str
    random: Sequence[float]
    pretrained: Sequence[float]

    @cached_property
    def test(self) -> PairedTest:
        """Pretrained − random, and its 95 % interval if there are several repetitions."""
        return paired_test(self.pretrained, self.random)

    @property
    def finding(self) -> int:
        """1: pretraining helped, −1: it did harm, 0: neither can be told from the repetitions."""
        width = self.test.half_width
        if width is None or abs(self.test.difference) <= width:
            return 0
        return 1 if self.test.difference > 0 else -1


def score_lines(demo: Demo, measured: Mapping[str, Any]) -> list[ScoreLine]:
    """The headline scores: the probe's, then in the order of the demo's config.

    Args:
        measured: what each measurement wrote down, by the name of its stage, or of its run.
    """
    probed = measured[PROBE]['scores']
    lines = [ScoreLine('frozen features', 'mIoU', probed[RANDOM], probed[PRETRAINED])]
    for part in demo.cfg.finetuning:
        found = {weights: [measured[run_name(part, weights, repeat)]['scores']
                           for repeat in range(part.repeats)] for weights in BOTH}
        lines += [ScoreLine(part.name, name, *(
            [scores[name] for scores in found[weights]] for weights in BOTH))
            for name in part.scores]
    return lines


def mean(scores: Sequence[float]) -> str:
    """The mean of some scores, as it is printed."""
    return f'{np.mean(scores):.1f}'


def difference(line: ScoreLine) -> str:
    """``+4.2 ± 1.1``, or ``−0.3`` of a single repetition: pretrained minus random, of the means
    as printed."""
    change = float(mean(line.pretrained)) - float(mean(line.random))
    text = signed(change) if abs(change) > 0.04 else '0.0'
    width = line.test.half_width
    return text if width is None else f'{text} ± {width:.1f}'


def finding(demo: Demo, measured: Mapping[str, Any]) -> str:
    """What was found, whatever it is, in one sentence."""
    lines = score_lines(demo, measured)
    found = [line.finding for line in lines]
    figures = '; '.join(
        f'{line.model}, {line.score}: {mean(line.pretrained)} against {mean(line.random)} from '
        f'random weights ({difference(line)})' for line in lines)
    number = f'{len(lines)} measurements'
    parts = [f'{verb} in {found.count(sign)}' for sign, verb in DID.items() if sign in found]
    if len(parts) > 1:
        words = f'Of {number}, pretraining without labels {", ".join(parts)}'
    else:
        where = f' in each of {number}' if found[0] else f', in {number}'
        words = f'Pretraining without labels {DID[found[0]]}{where}'
    return f'{words}: {figures}.'


def sentence(demo: Demo, part: Any, measured: Mapping[str, Any]) -> str:
    """How one downstream model was measured, in words that claim no more than that."""
    sample = demo.cfg.sample
    labelled = max(1, round(part.fraction * sample.train))
    iterations = measured[run_name(part, RANDOM)]['iterations']
    times = '' if part.repeats == 1 else f', {part.repeats} times with seeds of their own'
    return (f'{part.name}: fine-tuned on {labelled} labelled scenes for {iterations} iterations '
            f'and scored on {sample.val} others{times}, from both weights alike.')


def probe_sentence(demo: Demo, measured: Mapping[str, Any]) -> str:
    """How the frozen features were measured."""
    settings = demo.cfg.probe
    return (f'Frozen features: a 1×1 convolution fitted to {measured[PROBE]["scenes"]} labelled '
            f'scenes and scored on {demo.cfg.sample.val} others, {settings.repeats} times with '
            f'scenes drawn anew and new random weights. Nothing else is trained.')


def caveat(demo: Demo) -> str:
    """What the scores do not tell."""
    if demo.quick:
        return ('This was a quick run: everything is so small that its scores show only that the '
                'way works.')
    return (f'Data and settings were the same for both; only the initial weights differ. ± is '
            f'half of the 95 % interval of the difference over the repetitions (paired t-test). '
            f'There was one pretraining of one seed ({demo.seed}), whose own variation is not in '
            f'it; --seed N makes another. Drawn scenes are not your images.')
