"""The report of pretraining runs: one HTML file that stands alone."""
from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.pictures import page
from densessl.report.curve_charts import HEALTH, MASKS, color_of, figure_charts, learning_charts
from densessl.report.recorded_run import RecordedRun, read_run
from densessl.report.run_pictures import LEGEND, picture_section, view_section
from densessl.report.run_tables import details, facts_table, mask_table, score_table
from densessl.report.verdict import (
    FEW,
    HEALTHY,
    LEARNING,
    UNHEALTHY,
    UNKNOWN,
    Verdict,
    judge,
    said,
    together,
)

REPORT = 'report.html'
MOST_RUNS = 12
# the sign of a state, the CSS class of its words and the color of its border
LOOKS = {HEALTHY: ('✓', 'good', 'good'), LEARNING: ('!', 'unsure', 'unsure'),
         UNHEALTHY: ('✕', 'bad', 'bad'), UNKNOWN: ('?', 'soft', 'line')}
STYLE = """<style>
:root { --unsure: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --unsure: #f2c14e; } }
.unsure { color: var(--unsure); }
.verdicts { display: grid; gap: 14px; margin-top: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 310px), 1fr)); }
.verdict { background: var(--card); border: 1px solid var(--line); border-left: 6px solid;
  border-radius: 12px; padding: 16px 20px; min-width: 0; }
.verdict > * { color: var(--ink); } .verdict p { margin: 6px 0 0; }
.verdict h2 { margin: 0; overflow-wrap: anywhere; }
.verdict .state { font-size: 1.15rem; font-weight: 650; }
.verdict .good { color: var(--good); } .verdict .bad { color: var(--bad); }
.verdict .unsure { color: var(--unsure); } .verdict .soft { color: var(--soft); }
.verdict i.run, h3 i.run { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
  margin-right: .45em; }
.alarms { margin: 8px 0 0; padding-left: 1.2em; } .alarms li { margin: 4px 0; }
.note { font-size: .8125rem; margin: 2px 0 0; } .notes { font-size: .875rem; padding-left: 1.2em; }
h3, h4, figcaption { overflow-wrap: anywhere; } td { overflow-wrap: break-word; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
.charts + p { margin-top: 16px; } code { white-space: nowrap; font-size: .9em; }
h4 { font-size: .875rem; margin: 12px 0 0; }
.seen { display: grid; grid-template-columns: 190px minmax(0, 1fr); gap: 8px 20px;
  margin: 14px 0 26px; }
.seen .rows { gap: 6px; margin-top: 4px; } .seen figure img { image-rendering: pixelated; }
.seen .original img { image-rendering: auto; }
td { max-width: 34ch; } section p { overflow-wrap: anywhere; }
@media (max-width: 640px) { .seen { grid-template-columns: minmax(0, 1fr); }
  .seen .original { max-width: 190px; } }
@media print { body { background: #fff; } details { display: none; }
  .verdict, figure, tr { break-inside: avoid; } section { break-inside: auto; } }
</style>"""


def write_report(folders: Sequence[Path], path: Path | None = None) -> Path:
    """Write the report of the runs in work folders, side by side.

    Args:
        folders: of :mod:`densessl.training.train`; of finished runs or of others.
        path: the page; ``report.html`` in the folder if there is one, else in the current folder.

    Returns:
        The page.

    Raises:
        UsageError: there is no run in one of them, or one is given twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError('a work folder is given twice: give each once')
    if len(folders) > MOST_RUNS:
        raise UsageError(f'{len(folders)} runs: at most {MOST_RUNS} can be read side by side')
    runs = list(map(read_run, folders, _names(folders)))
    path = path or (folders[0] if len(folders) == 1 else Path()) / REPORT
    page.write_page(path, f'Pretraining: {", ".join(run.name for run in runs)}', _body(runs))
    return path


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths by which the folders can be told apart."""
    paths = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ['/'.join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return names


def _body(runs: Sequence[RecordedRun]) -> str:
    verdicts = [judge(run) for run in runs]
    has_curves = any(len(points) >= FEW for run in runs for points in run.figures.values())
    few = page.paragraph('Too few lines of the log for curves.', 'soft')
    return '\n'.join([
        STYLE, _head(runs, verdicts),
        page.section('Does it learn?', learning_charts(runs, verdicts) if has_curves else few,
                     *_without_probe(runs)),
        page.section('Health', figure_charts(runs, verdicts, HEALTH) if has_curves else few),
        page.section('What it sees', LEGEND, *_each(runs, picture_section)),
        page.section('Views as the network gets them', page.paragraph(
            'Left the image, with its regions if the method uses masks, and frames where the views '
            'are cut. Regions of one color are the same in both views.', 'soft'),
            *_each(runs, view_section)),
        page.section('Masks', mask_table(runs),
                     figure_charts(runs, verdicts, MASKS) if has_curves else ''),
        page.section('Downstream scores', score_table(runs)),
        page.section('What was run', facts_table(runs), *map(details, runs),
                     page.paragraph(f'Written {time.strftime("%Y-%m-%d %H:%M")}.', 'soft'))])


def _head(runs: Sequence[RecordedRun], verdicts: Sequence[Verdict]) -> str:
    lead = page.paragraph(together(runs, verdicts), 'lead') if len(runs) > 1 else ''
    title = 'Is this pretraining run healthy?' if len(runs) == 1 else (
        f'Which of these {len(runs)} pretraining runs is healthy?')
    cards = ''.join(_card(i, run, verdict) for i, (run, verdict) in
                    enumerate(zip(runs, verdicts, strict=True)))
    return f'<header><h1>{title}</h1>{lead}<div class="verdicts">{cards}</div></header>'


def _card(number: int, run: RecordedRun, verdict: Verdict) -> str:
    sign, kind, border = LOOKS[verdict.state]
    done = f'Step {run.last}' + (f' of {run.iterations}' if run.iterations else '')
    done += ', finished.' if run.is_finished else ', not finished.'
    heading = (f'<h2>{_dot(number)}{escape(run.name)}</h2><p class="state {kind}">'
               f'{sign} {escape(verdict.sentence)}</p>')
    said = (f'<p>{_words(verdict.why)}</p><p><b>What to do:</b> {_words(verdict.to_do)}</p>'
            + page.paragraph(done, 'soft'))
    return (f'<div class="verdict" style="border-left-color: var(--{border})">'
            f'{heading}{said}{_alarms(run.alarms)}</div>')


def _alarms(alarms: Sequence[Mapping[str, Any]] | None) -> str:
    if alarms is None:
        return page.paragraph('This run kept no alarms: it may be older than they are.', 'soft')
    if not alarms:
        return page.paragraph('No alarm was raised.', 'soft')
    if len(alarms) == 1:
        return page.paragraph(f'One alarm, at step {alarms[0]["step"]}.', 'soft')   # it is the why
    lines = ''.join(f'<li><b>Step {alarm["step"]}:</b> {_words(said(alarm, "text"))} <span '
                    f'class="soft">{_words(said(alarm, "mend"))}</span></li>' for alarm in alarms)
    return f'<p><b>{len(alarms)} alarms</b></p><ul class="alarms">{lines}</ul>'


def _words(text: str) -> str:
    """Text whose options do not break at their hyphens."""
    return re.sub(r'--[a-z-]+', lambda option: f'<code>{option[0]}</code>', escape(text))


def _dot(number: int) -> str:
    return f'<i class="run" style="background: var(--series-{color_of(number)})"></i>'


def _each(runs: Sequence[RecordedRun], section: Callable[[RecordedRun], str]) -> list[str]:
    if len(runs) == 1:
        return [section(runs[0])]
    return [f'<h3>{_dot(i)}{escape(run.name)}</h3>{section(run)}' for i, run in enumerate(runs)]


def _without_probe(runs: Sequence[RecordedRun]) -> list[str]:
    without = [run.name for run in runs if not run.probes]
    if not without:
        return []
    text = (f'No probe: {", ".join(without)}. With --probe DATA, a few labelled images tell during '
            f'training what the features are good for.')
    return [f'<p class="soft">{_words(text)}</p>']
