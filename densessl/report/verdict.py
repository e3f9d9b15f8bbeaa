"""Whether a run is healthy, in words: since which step that was clear, and what to do."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densessl.report.curves import Points
from densessl.report.recorded_run import RecordedRun
from densessl.watch.alarms import COLLAPSED

HEALTHY, LEARNING, UNHEALTHY, UNKNOWN = 'Healthy', 'Look closer', 'Not healthy', 'Cannot tell'
SLOW = {'waiting', 'queue'}     # alarms of runs that learn all the same
FEW = 3                         # lines of the log, before which nothing can be told
GAIN = 1.0                      # percentage points of mIoU that are more than chance


@dataclass(frozen=True)
class Verdict:
    """Attributes:
        state: one of the four words above.
        why: what was seen. to_do: what to do about it.
        since: the iteration from which it was clear, if there is one.
    """

    state: str
    why: str
    to_do: str
    since: int | None = None

    @property
    def sentence(self) -> str:
        """State and step."""
        return self.state + ('' if self.since is None else f' since step {self.since}')


def judge(run: RecordedRun) -> Verdict:
    """Judge a run by its alarms first, then by its probe, then by what else was logged."""
    grave = [alarm for alarm in run.alarms or () if alarm.get('name') not in SLOW]
    probe = _probe_verdict(run.probes or ())
    if grave:
        return _alarmed(grave, probe)
    collapse = _collapse(run.figures.get('spread', ()))
    if collapse:
        return collapse
    if probe:
        return _with_slowness(probe, run)
    lines = run.figures.get('loss', ())
    if len(lines) < FEW:
        return Verdict(UNKNOWN, f'Only {len(lines)} line{"" if len(lines) == 1 else "s"} of the '
                       f'log so far: too few to tell.', 'Let it run on, or log more often '
                       '(log_interval).')
    return _with_slowness(Verdict(
        UNKNOWN, f'No alarm was raised and the features still differ, but nothing measured what '
        f'they are good for. {_loss_words(lines)}', 'Watch the next run with --probe DATA (a few '
        'labelled images), or measure its weights with densessl probe.'), run)


def together(runs: Sequence[RecordedRun], verdicts: Sequence[Verdict]) -> str:
    """Several runs in a sentence or two."""
    words = {UNHEALTHY: 'not healthy', LEARNING: 'to be looked at more closely',
             HEALTHY: 'healthy', UNKNOWN: 'not to be judged yet'}
    named = {state: [run.name for run, verdict in zip(runs, verdicts, strict=True)
                     if verdict.state == state] for state in words}
    sentences = [f'{listed(names)} {"is" if len(names) == 1 else "are"} {words[state]}'
                 for state, names in named.items() if names]
    best = max(((line['mIoU'], run.name) for run in runs for line in (run.probes or ())[-1:]),
               default=None)
    text = '. '.join(sentences) + '.'
    if best and sum(bool(run.probes) for run in runs) > 1:
        text += f' The highest probe at the end is that of {best[1]}: {best[0]:.1f} mIoU.'
    return text


def start_of(probes: Sequence[Mapping[str, Any]]) -> float | None:
    """The mIoU of the weights that a run started from."""
    stated = (line.get('start') for line in probes)
    first = next((line['mIoU'] for line in probes if line['step'] == 0), None)
    return next((value for value in stated if isinstance(value, (int, float))), first)


def _alarmed(grave: Sequence[Mapping[str, Any]], probe: Verdict | None) -> Verdict:
    first = min(grave, key=lambda alarm: alarm['step'])
    text, mend = (said(first, key) for key in ('text', 'mend'))
    if probe and probe.state == HEALTHY:
        return Verdict(LEARNING, f'{probe.why} But at step {first["step"]:.0f}: {text}',
                       mend, probe.since)
    if probe:
        text += f' {probe.why}'
    return Verdict(UNHEALTHY, text, mend, int(first['step']))


def _collapse(spread: Points | Sequence[Any]) -> Verdict | None:
    since = _since(spread, lambda value: value < COLLAPSED)
    if since is None:
        return None
    return Verdict(UNHEALTHY, f'The features of a batch are nearly the same (spread '
                   f'{spread[-1][1]:.3f} of 1): the backbone has collapsed.', 'Lower the learning '
                   'rate or lengthen the warm-up; start again from before that step.', since)


def _probe_verdict(probes: Sequence[Mapping[str, Any]]) -> Verdict | None:
    """None if the probes do not yet say anything."""
    start = start_of(probes)
    figures = [(line['step'], line['mIoU']) for line in probes if line['step'] > 0]
    if start is None or not figures:
        return None
    step, last = figures[-1]
    change = f'The probe went from {start:.1f} to {last:.1f} mIoU by step {step}'
    if start - last > GAIN:
        since = _since(figures, lambda value: value < start)
        return Verdict(UNHEALTHY, f'{change}: below what it started from.', 'A lower learning '
                       'rate, fewer epochs or other images may help; the weights it started from '
                       'are better at this task.', since)
    if last - start < GAIN:
        return Verdict(LEARNING, f'{change}: hardly a difference.', 'Let it run on; if the probe '
                       'stays level, other settings or images are needed.')
    return Verdict(HEALTHY, f'{change}.', 'Nothing. The probe is a quick measure: fine-tuning '
                   'tells what the features are worth.',
                   _since(figures, lambda value: value > start))


def _since(figures: Points, holds: Callable[[float], bool]) -> int | None:
    """The step from which ``holds`` is true of every figure."""
    since = None
    for step, value in figures:
        since = (int(step) if since is None else since) if holds(value) else None
    return since


def _with_slowness(verdict: Verdict, run: RecordedRun) -> Verdict:
    slow = [alarm for alarm in run.alarms or () if alarm.get('name') in SLOW]
    if not slow:
        return verdict
    text, mend = (said(slow[0], key) for key in ('text', 'mend'))
    return Verdict(verdict.state, f'{verdict.why} It could be better off: {text}',
                   f'{verdict.to_do} {mend}', verdict.since)


def _loss_words(lines: Points | Sequence[Any]) -> str:
    first, last = lines[0][1], lines[-1][1]
    if not (math.isfinite(first) and math.isfinite(last)):
        return 'The loss is not a number.'
    return f'The loss went from {first:.3g} to {last:.3g}, which alone says little.'


def said(alarm: Mapping[str, Any], key: str) -> str:
    """What an alarm says under ``key``, with a capital and a full stop."""
    text = str(alarm.get(key, '')).strip()
    return text[:1].upper() + text[1:] + ('' if not text or text[-1] in '.!?' else '.')


def listed(words: Sequence[str]) -> str:
    """``'a'``, ``'a and b'``, ``'a, b and c'``."""
    return ' and '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)
