"""The demo's report: one HTML file that says what was done, shows it, and claims no more."""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from densessl.demo import gallery
from densessl.demo.demo import BOTH, PRETRAINED, Demo, run_name
from densessl.demo.scores import (
    caveat,
    difference,
    finding,
    mean,
    probe_sentence,
    score_lines,
    sentence,
)
from densessl.machine.facts import machine_facts, versions
from densessl.pictures import page
from densessl.pictures.charts import Series, line_chart, smoothed
from densessl.progress import duration
from densessl.report.curves import read_curves


def write_demo_report(demo: Demo, measured: Mapping[str, Any], seconds: Mapping[str, float]) -> int:
    """Write ``demo.report``; return its size in bytes.

    Args:
        measured: what each measurement wrote down, by the name of its stage, or of its run.
        seconds: how long each stage took, by its name.
    """
    sections = [_head(demo, measured), _scores(demo, measured),
                *(_finetuning(demo, part) for part in demo.cfg.finetuning),
                _masks(demo), _views(demo), _pretraining(demo),
                _handoff(demo, measured), _run(demo, measured, seconds)]
    page.write_page(demo.report, f'densessl demo: {demo.cfg.pretraining.name}',
                    '\n'.join(sections))
    return demo.report.stat().st_size


def _head(demo: Demo, measured: Mapping[str, Any]) -> str:
    sample, name = demo.cfg.sample, demo.cfg.pretraining.name
    first = score_lines(demo, measured)[0]
    quick = (page.paragraph('Quick run: everything is so small that the scores mean nothing.',
                            'bad') if demo.quick else '')
    return ('<header><h1>Does pretraining without labels help? One small measurement</h1>'
            + quick + page.paragraph(finding(demo, measured), 'lead') + page.tiles([
                (mean(first.random), f'{first.score}, {first.model} of random weights', False),
                (mean(first.pretrained), f'{first.score}, {first.model} of {name} weights', True),
                (difference(first), 'difference', False)])
            + page.paragraph(
                f'{name} pretrained a backbone on {sample.unlabelled} drawn scenes without any '
                f'label. {sample.train} others have labels, and {sample.val} more are scored. '
                f'The same network from random weights stands beside it.') + '</header>')


def _scores(demo: Demo, measured: Mapping[str, Any]) -> str:
    lines = [(line.model, line.score, _each(line.random), _each(line.pretrained),
              difference(line)) for line in score_lines(demo, measured)]
    header = ('model', 'score', 'random', demo.cfg.pretraining.name, 'difference')
    return page.section('Scores', page.table(header, lines, numbers=(2, 3, 4)),
                        page.paragraph(probe_sentence(demo, measured)),
                        *(page.paragraph(sentence(demo, part, measured))
                          for part in demo.cfg.finetuning),
                        page.paragraph(caveat(demo), 'soft'))


def _each(scores: Sequence[float]) -> str:
    """The mean, and of several repetitions each."""
    several = f' ({", ".join(f"{score:.1f}" for score in scores)})' if len(scores) > 1 else ''
    return mean(scores) + several


def _finetuning(demo: Demo, part: Any) -> str:
    curves = {weights: read_curves(demo.finetuning(part, weights)) for weights in BOTH}

    def series(key: str, *, window: int = 1, markers: bool = False, scale: float = 1
               ) -> list[Series]:
        lines = []
        for color, weights in enumerate(BOTH):
            points = [(x, scale * y) for x, y in curves[weights].get(key, [])]
            lines.append(Series(f'from {demo.label(weights)} weights', smoothed(points, window),
                                color, markers))
        return lines

    score = series(part.curve, markers=True, scale=part.get('curve_scale', 1))
    charts = (line_chart(f'{part.scores[0]} on the validation scenes', score, x_name='iteration',
                         from_zero=True)
              + line_chart('Training loss, mean of 5 readings', series('loss', window=5),
                           x_name='iteration', from_zero=True))
    first = (page.paragraph('Curves and pictures are of the first repetition.', 'soft')
             if part.repeats > 1 else '')
    return page.section(f'{part.name}: {part.task}', first, f'<div class="charts">{charts}</div>',
                        '<h3>What it predicts</h3>',
                        page.paragraph('The first validation scenes, not chosen by result.',
                                       'soft'), gallery.prediction_gallery(demo, part))


def _masks(demo: Demo) -> str:
    return page.section('Unlabelled scenes and their regions', page.paragraph(
        f'Regions come from the pixels alone ({demo.mask_words}). They follow objects '
        f'roughly; no label is used. Left: the outlines; right: each region in a color of its own.',
        'soft'), gallery.mask_gallery(demo))


def _views(demo: Demo) -> str:
    return page.section('Two views of a scene', page.paragraph(
        'Each step sees two random crops of a scene, with other colors, blur and solarization, as '
        'shown here. Features of a region in one view should match those of the same region in the '
        'other: regions in both views are outlined in the same color. White lines separate '
        'the others.', 'soft'), gallery.view_gallery(demo))


def _pretraining(demo: Demo) -> str:
    curves = read_curves(demo.pretraining)
    loss, name = curves.get('loss', []), demo.cfg.pretraining.name
    window = max(1, len(loss) // 20)
    charts = (line_chart(f'{name} loss', [Series('as logged', loss, 1, faint=True),
                                          Series('smoothed', smoothed(loss, window), 1)],
                         x_name='step')
              + line_chart('Learning rate', [Series('rate', curves.get('lr', []), 2)],
                           x_name='step', from_zero=True))
    words = ''
    if len(loss) > 1:
        words = page.paragraph(f'From {loss[0][1]:.3f} at step {loss[0][0]} to {loss[-1][1]:.3f} '
                               f'at step {loss[-1][0]}. A falling loss alone does not make useful '
                               f'features; the scores above are the test of that.', 'soft')
    return page.section('Pretraining', words, f'<div class="charts">{charts}</div>')


def _handoff(demo: Demo, measured: Mapping[str, Any]) -> str:
    parts = []
    for part in demo.cfg.finetuning:
        record = measured[run_name(part, PRETRAINED)]
        keys, features = record['handoff'].get('keys', {}), record['handoff'].get('features', {})
        parts.append(f'<h3>{part.name}</h3>')
        parts.append(page.table(('weights of the backbone', 'keys'), keys.items(), numbers=(1,)))
        if features:
            parts.append(page.paragraph(_function_check(features)))
        parts.append(page.folded('What the recipe changed in the downstream config',
                                 page.verbatim('\n'.join(record['recipe']))))
    return page.section('Did the weights arrive?', page.paragraph(
        'Before fine-tuning, every weight is compared with what is in the downstream model, and '
        'both backbones are run on the same image.', 'soft'), *parts)


def _function_check(features: Mapping[str, Any]) -> str:
    differences = features['differences']
    text = (f'Function check: {len(differences)} of {features["stages"]} stages compared, largest '
            f'relative difference {max(differences):.1e}')
    if features.get('restrided'):
        text += ' (the next one has another stride in the downstream model, by its config)'
    return text + '.'


def _run(demo: Demo, measured: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    made = measured[run_name(demo.cfg.finetuning[0], PRETRAINED)]['provenance']
    times = [(name, duration(value)) for name, value in seconds.items() if name != 'report']
    total = sum(value for name, value in seconds.items() if name != 'report')
    facts = [(key.replace('_', ' '), _words(value)) for key, value in made.items()]
    return page.section(
        'What was run', page.paragraph(
            f'Written {time.strftime("%Y-%m-%d %H:%M")}, seed {demo.seed}'
            + (', the quick way' if demo.quick else '') + '. Times are of this machine, with '
            'whatever else was running.', 'soft'),
        page.table(('stage', 'time'), [*times, ('together', duration(total))], numbers=(1,),
                   strong=(len(times),)),
        '<h3>Machine</h3>', page.table((), machine_facts().items()),
        page.folded('Where the weights come from, as the file states it', page.table((), facts)),
        page.folded('Versions', page.table((), versions().items())),
        page.folded('The pretraining config in full',
                    page.verbatim(demo.method.pretty_text)))


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {_words(one)}' for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ', '.join(map(str, value))
    return str(value)
