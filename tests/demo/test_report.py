"""The report's parts: pictures, charts, page, curves, scores and kept predictions."""
from __future__ import annotations

import json
import re
from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.structures import InstanceData, PixelData

from densessl.demo.gallery import true_instances
from densessl.demo.predictions import KeepPredictions, read_instances, read_label_map
from densessl.demo.sample import write_scenes
from densessl.demo.scores import (
    ScoreLine,
    caveat,
    difference,
    finding,
    mean,
    probe_sentence,
    score_lines,
    sentence,
)
from densessl.images.find import find_images
from densessl.pictures import figures, page
from densessl.pictures.charts import Series, line_chart, smoothed
from densessl.report.curves import read_curves
from densessl.training.view_sheet import crops_of
from densessl.views.dataset import ViewDataset
from densessl.views.view import AugmentedView

GRAY = np.full((8, 12, 3), 90, np.uint8)
HALVES = np.repeat(np.array([[0] * 6 + [1] * 6], np.uint8), 8, 0)     # (8, 12)


# -- pictures -------------------------------------------------------------------------------------

def test_outlines_lie_where_regions_meet():
    picture = figures.draw_regions(GRAY, HALVES, scale=3, lines='bold')
    assert picture.shape == (24, 36, 3)
    white = (picture == 255).all(2)
    assert white[:, 17:19].any(1).all()                 # along the border at column 6 · 3
    assert not white[:, :15].any() and not white[:, 22:].any()


def test_each_region_is_outlined_inside_in_its_own_color():
    picture = figures.draw_regions(GRAY, HALVES, {0: (255, 0, 0), 1: (0, 0, 255)}, scale=3,
                                   lines='inside')
    assert tuple(picture[12, 17]) == (255, 0, 0) and tuple(picture[12, 18]) == (0, 0, 255)
    assert tuple(picture[12, 9]) == (90, 90, 90)        # the inside stays as it is


def test_class_colors_are_those_of_the_palette_but_for_the_light():
    colors = {0: (250, 0, 0), 1: (0, 250, 0)}
    picture = figures.draw_regions(GRAY, HALVES, colors, scale=2, fill=0.8)
    assert picture.shape == (16, 24, 3) and not picture[..., 2].max() > 0.2 * 90
    assert picture[4, 4].argmax() == 0 and picture[4, 20].argmax() == 1
    colored = np.full((8, 12, 3), (10, 60, 200), np.uint8)
    unknown = figures.draw_regions(colored, np.full((8, 12), 255, np.uint8), colors, fill=0.8)
    assert (unknown == colored).all()                   # without a label: as it is
    with pytest.raises(ValueError, match=r'a mask of shape \(8, 12\) for an image of \(4, 12\)'):
        figures.draw_regions(GRAY[:4], HALVES)


def test_many_regions_have_different_colors():
    assert len({figures.region_color(i) for i in range(60)}) == 60


def test_instances_are_tinted_boxed_and_named_within_the_picture():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    image = np.full((40, 60, 3), 90, np.uint8)
    picture = figures.drawn_instances(image, [mask], [(20, 10, 40, 30)], ['ball'], [(200, 0, 0)])
    assert picture.shape == (120, 180, 3)
    assert picture[60, 90, 0] > picture[60, 90, 1]
    assert (picture[30, 60:120] == (200, 0, 0)).all(1).any()
    without = figures.drawn_instances(image, [], [(50, 0, 60, 9)], ['a long name'], [(9, 9, 9)])
    assert without.shape == picture.shape


def test_the_drawn_crops_are_those_that_the_views_are_cut_from(tmp_path):
    write_scenes(tmp_path / 's', unlabelled=3, train=0, val=0)
    views = [AugmentedView(size=48, reduced=False, jitter=dict(p=1.0, hue=0.1),
                           blur=dict(p=0.5, sigma=(0.1, 1))),
             AugmentedView(size=48, reduced=False, solarize=dict(p=0.5, threshold=0.5))]
    dataset = ViewDataset(find_images(tmp_path / 's' / 'unlabelled'), None, views, seed=3)
    for i in range(3):
        sample = dataset[(i, i)]
        image = cv2.imread(str(dataset.images.path(i)))[..., ::-1]
        for view, box, pixels in zip(views, crops_of(dataset, (i, i)), sample['image'],
                                     strict=True):
            cuts = [view.cut(image, box, flip) for flip in (False, True)]
            assert any(np.array_equal(cut, pixels) for cut in cuts)


def test_true_instances_agree_with_the_label_map(tmp_path):
    write_scenes(tmp_path, unlabelled=0, train=0, val=3)
    classes = json.loads((tmp_path / 'classes.json').read_text())
    first = len(classes['classes']) - len(classes['things'])
    for i in range(3):
        found = true_instances(tmp_path, f'{i:05d}')
        labels = cv2.imread(str(tmp_path / 'labels' / 'val' / f'{i:05d}.png'), -1)
        assert len(found.masks) == len(found.labels) == len(found.boxes) > 0
        for mask, label, box in zip(found.masks, found.labels, found.boxes, strict=True):
            assert (labels[mask] == first + label).mean() > 0.98
            x = np.flatnonzero(mask.any(0))
            assert abs(x[0] - box[0]) <= 1 and abs(x[-1] + 1 - box[2]) <= 1


# -- charts ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(('low', 'high'), [(0, 1), (0.0, 0.05), (3.2, 3.4), (-2, 7), (5, 5),
                                           (0, 0)])
def test_ticks_are_few_round_and_span_the_data(low, high):
    chart = line_chart('loss', [Series('a', [(1, low), (2, high)])], x_name='step')
    found = [float(text.replace('−', '-'))
             for text in re.findall('text-anchor: end.*?>([^<]+)</text>', chart)]
    assert found[0] <= low + 1e-9 and found[-1] >= high - 1e-9 and 2 <= len(found) <= 8
    assert len({round(b - a, 9) for a, b in pairwise(found)}) == 1


def test_charts_take_what_runs_leave():
    chart = line_chart('loss', [Series('a', [(1, 3.0), (2, float('nan')), (3, 2.0)]),
                                Series('b', [(2, 1.0)], 0)], x_name='step')
    lines = re.findall(r'd="M ([^"]*?)"\s+style="fill: none; stroke: var\(--series-(.)\)', chart)
    assert [(line.count('L'), color) for line, color in lines] == [(1, '1'), (0, '0')]
    assert 'nan' not in chart
    assert 'no data' in line_chart('loss', [Series('a', [])], x_name='step')
    assert smoothed([(1, 2.0), (2, 4.0), (3, 6.0)], 2) == [(1, 2.0), (2, 3.0), (3, 5.0)]


def test_charts_are_in_the_pages_colors_and_say_their_points():
    chart = line_chart('a < "b"', [Series('<i>', [(1, 3.0), (2, 4.5)], 2, markers=True),
                                   Series('c', [(1, 1.0), (2, 2.0)], 0)], x_name='$x_1$ & <b>')
    assert '&lt;i&gt;: 3 at 1</title>' in chart and '&lt;i&gt;: 4.5 at 2</title>' in chart
    assert 'aria-label="a &lt; &quot;b&quot;"' in chart and '<b>' not in chart
    assert '$x_1$ &amp; &lt;b&gt;' in chart, 'no formula, and no markup'
    assert set(re.findall(r'(?:fill|stroke): ([^;"]+)', chart)) == {
        'none', 'var(--soft)', 'var(--line)', 'var(--series-0)', 'var(--series-2)'}
    assert_self_contained(chart)


def test_curves_of_a_resumed_run_are_joined(tmp_path):
    for name, lines in (('20200101_0', ['{"loss": 3, "step": 10}', '{"loss": 2, "step": 20}']),
                        ('20200102_0', ['{"loss": 1, "step": 20}', '{"mIoU": 5, "step": 30}',
                                        '{"loss": 0.5, "st'])):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(lines))
    curves = read_curves(tmp_path)
    assert curves['loss'] == [(10, 3), (20, 1)] and curves['mIoU'] == [(30, 5)]
    assert read_curves(tmp_path / 'nowhere') == {}


# -- page -----------------------------------------------------------------------------------------

def test_a_page_needs_nothing_but_itself(tmp_path):
    body = page.section('a < b', page.paragraph('<script>'), page.picture(GRAY, 'x & y'),
                        page.table(('a', 'b'), [('<i>', 1)], numbers=(1,)),
                        page.legend([('sky', (1, 2, 3))]), page.verbatim('<b>'))
    page.write_page(tmp_path / 'report.html', 'title', body)
    html = (tmp_path / 'report.html').read_text()
    assert_self_contained(html)
    assert 'a &lt; b' in html and '&lt;script&gt;' in html and 'x &amp; y' in html
    assert 'prefers-color-scheme: dark' in html and 'width=device-width' in html


def assert_self_contained(html: str) -> None:
    assert '<script' not in html and '<link' not in html and '@import' not in html
    assert not re.search(r'(src|href)\s*=\s*"(?!data:|#)|url\((?!#)', html)
    for tag in ('section', 'figure', 'table', 'div', 'svg', 'details'):
        assert html.count(f'<{tag}') == html.count(f'</{tag}>'), tag


# -- scores and predictions -----------------------------------------------------------------------

def demo_of(quick: bool = False, repeats: int = 3) -> SimpleNamespace:
    part = dict(name='FCN', task='segmentation', scores=['mIoU'], fraction=0.5, repeats=repeats)
    return SimpleNamespace(seed=7, quick=quick, cfg=Config(dict(
        finetuning=[part], pretraining=dict(name='M'), sample=dict(train=20, val=5),
        probe=dict(repeats=3))))


def measured_of(probe, fcn):
    """What a demo measured: (random, pretrained) scores of the probe and of the FCN."""
    found = {'probe': {'scores': dict(zip(('random', 'pretrained'), probe, strict=True)),
                       'scenes': 8}}
    for weights, scores in zip(('random', 'pretrained'), fcn, strict=True):
        for repeat, score in enumerate(scores):
            name = f'FCN from {weights}' + (f', {repeat + 1}' if repeat else '')
            found[name] = {'scores': {'mIoU': score}, 'iterations': 90}
    return found


BETTER = ([10.0, 10.5, 9.5], [20.0, 20.6, 19.7])
WORSE = BETTER[::-1]
ALIKE = ([10.0, 12.0, 9.0], [11.0, 10.0, 10.0])


@pytest.mark.parametrize(('probe', 'fcn', 'words'), [
    (BETTER, BETTER, 'Pretraining without labels helped in each of 2 measurements: '),
    (WORSE, WORSE, 'Pretraining without labels did harm in each of 2 measurements: '),
    (ALIKE, ALIKE, 'Pretraining without labels made no difference that can be told from chance, '
                   'in 2 measurements: '),
    (BETTER, ALIKE, 'Of 2 measurements, pretraining without labels helped in 1, made no '
                    'difference that can be told from chance in 1: '),
    (BETTER, WORSE, 'Of 2 measurements, pretraining without labels helped in 1, did harm in 1: '),
])
def test_the_first_sentence_says_what_was_found_whatever_it_is(probe, fcn, words):
    said = finding(demo_of(), measured_of(probe, fcn))
    assert said.startswith(words), said
    line = score_lines(demo_of(), measured_of(probe, fcn))[0]
    assert (f'frozen features, mIoU: {mean(probe[1])} against {mean(probe[0])} from random weights '
            f'({difference(line)})') in said


def test_one_repetition_tells_nothing_from_chance():
    said = finding(demo_of(repeats=1), measured_of(BETTER, ([10.0], [50.0])))
    assert 'helped in 1' in said and 'told from chance in 1' in said
    assert said.endswith('FCN, mIoU: 50.0 against 10.0 from random weights (+40.0).')


def test_lines_hold_every_repetition_and_its_interval():
    probe, fcn = score_lines(demo_of(), measured_of(ALIKE, BETTER))
    assert (fcn.model, fcn.score, list(fcn.random), list(fcn.pretrained)) == (
        'FCN', 'mIoU', *BETTER)
    differences = np.subtract(BETTER[1], BETTER[0])
    width = 4.3027 * differences.std(ddof=1) / 3 ** 0.5       # Student's t of 2 degrees of freedom
    assert fcn.test.half_width == pytest.approx(width, rel=1e-3)
    assert (probe.finding, fcn.finding) == (0, 1)


def test_how_it_was_measured_is_said():
    demo = demo_of()
    text = sentence(demo, demo.cfg.finetuning[0], measured_of(BETTER, BETTER))
    assert '10 labelled scenes for 90 iterations' in text and '5 others, 3 times' in text
    assert '8 labelled scenes and scored on 5 others, 3 times' in probe_sentence(
        demo, measured_of(BETTER, BETTER))
    assert 'one seed' in caveat(demo) and '(7)' in caveat(demo)
    assert 'quick' in caveat(demo_of(quick=True))


def test_the_difference_is_that_of_the_printed_figures():
    def change(a: float, b: float) -> str:
        return difference(ScoreLine('m', 's', [a], [b]))
    assert (change(10, 12.34), change(10.04, 9.96), change(12.3, 10)) == ('+2.3', '0.0', '−2.3')
    assert difference(ScoreLine('m', 's', [1, 2], [4, 7])) == '+4.0 ± 12.7'


class Sample(dict):
    """A data sample as mmengine's models return it: elements by name and as attributes."""

    __getattr__ = dict.__getitem__


def test_predictions_are_kept_of_the_named_images_alone(tmp_path):
    labels = torch.randint(0, 5, (1, 6, 7))
    boxes = InstanceData(bboxes=torch.tensor([[0., 1, 2, 3], [1, 1, 4, 4]]),
                         scores=torch.tensor([0.9, 0.2]), labels=torch.tensor([3, 1]),
                         masks=torch.ones(2, 6, 7, dtype=torch.bool))
    hook = KeepPredictions(names=['b'])
    samples = [Sample(img_path=f'/x/{name}.jpg', pred_sem_seg=PixelData(data=labels),
                      pred_instances=boxes) for name in 'ab']
    hook.after_val_iter(SimpleNamespace(work_dir=str(tmp_path)), 0, None, samples)
    assert np.array_equal(read_label_map(tmp_path, 'b'), labels[0].numpy())
    found = read_instances(tmp_path, 'b').above(0.5)
    assert found.labels.tolist() == [3] and found.masks.shape == (1, 6, 7)
    assert read_label_map(tmp_path, 'a') is None and read_instances(tmp_path, 'a') is None
