"""What had nothing to score is no figure, and a run without any is a failed one."""
from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import draw_label_folder

from densessl.cli import main
from densessl.errors import RunFailed
from densessl.files.json_files import write_json
from densessl.finetune.scoring import ScoresHook
from densessl.probes.frozen import Measured
from densessl.registry import TRANSFER_TARGETS

TWIN = 'downstream/fcn_r18_folder'
AVERAGES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


def strict(path):
    """A JSON file, of nothing but what JSON has."""
    def refuse(word):
        raise ValueError(word)
    return json.loads(path.read_text(), parse_constant=refuse)


def evaluated(target, metrics):
    hook = ScoresHook(TRANSFER_TARGETS.get(target)())
    runner = SimpleNamespace(val_dataloader=SimpleNamespace(dataset=[0] * 3))
    hook.after_val_epoch(runner, metrics)
    return hook


def test_sizes_without_objects_are_left_out_and_the_rest_stands():
    metrics = {'coco/bbox_mAP': 0.254, 'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP_s': -1.0,
               'coco/segm_mAP': -1.0, 'coco/cat_precision': math.nan}
    hook = evaluated('mmdet', metrics)
    assert hook.scores == {'box AP': 25.4, 'box AP50': 50.0}
    assert metrics == hook.metrics == {'coco/bbox_mAP': 0.254, 'coco/bbox_mAP_50': 0.5}
    hook = evaluated('mmseg', {'mIoU': 40.0, 'mAcc': float('nan'), 'aAcc': np.float64(80)})
    assert hook.scores == {'mIoU': 40.0, 'aAcc': 80.0}


@pytest.mark.parametrize('target, metrics', [
    ('mmdet', {f'coco/bbox_{name}': -1.0 for name in AVERAGES}),
    ('mmdet', {'pascal_voc/mAP': math.nan, 'pascal_voc/AP50': math.nan}),
    ('mmseg', {'mIoU': math.nan, 'aAcc': math.nan}), ('mmseg', {})])
def test_nothing_to_score_is_a_failed_run(target, metrics):
    with pytest.raises(RunFailed, match='the evaluation on 3 images had nothing to score') as error:
        evaluated(target, metrics)
    assert '\n' not in str(error.value)


def run(label_folder, tiny, folder, *options, more=()):
    return main(['finetune', TWIN, '--backbone', 'random', '--data-root', str(label_folder),
                 '--work-dir', str(folder), '--cfg-options',
                 *(f'{key}={value}' for key, value in tiny.items()), *options, *more])


def test_labels_that_are_all_ignored(tiny, tmp_path, capsys):
    """MMSegmentation's mean over no class is NaN."""
    root = draw_label_folder(tmp_path / 'labelled')
    for path in (root / 'labels/val').iterdir():
        Image.fromarray(np.full((48, 48), 255, np.uint8)).save(path)
    assert run(root, {**tiny, 'train_cfg.max_iters': 1}, tmp_path / 'run') == 2
    assert 'has no pixel with a label' in capsys.readouterr().err      # before anything is trained
    assert run(root, {**tiny, 'train_cfg.max_iters': 1}, tmp_path / 'run',
               more=['--no-check']) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'the evaluation on 2 images had nothing to score (' in said
    assert not (tmp_path / 'run/scores.json').exists()
    assert main(['probe', 'random', '--backbone-type', 'timm.test_resnet', '--data', str(root),
                 '--out', str(tmp_path / 'probe.json'), '--size', '64', '--workers', '0',
                 '--no-check']) == 1
    assert 'there was nothing to score' in capsys.readouterr().err.splitlines()[-1]


def test_a_loss_that_is_not_finite_ends_fine_tuning(label_folder, tiny, tmp_path, capsys):
    assert run(label_folder, tiny, tmp_path / 'run', 'default_hooks.checkpoint.interval=1',
               'optim_wrapper.optimizer.lr=1e30', 'param_scheduler=[]') == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'not finite' in said and 'lower the learning rate' in said
    kept = sorted((tmp_path / 'run').glob('iter_*.pth'))
    for path in kept:
        state = torch.load(path, weights_only=False)['state_dict']
        assert all(torch.isfinite(value).all() for value in state.values()
                   if value.is_floating_point())
        assert f'the last good checkpoint is {kept[-1]}' in said
    assert not (tmp_path / 'run/scores.json').exists()


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / 'x.json', {'a': [math.nan, 1.5, (math.inf, {'b': -math.inf})], 'c': True})
    assert strict(tmp_path / 'x.json') == {'a': [None, 1.5, [None, {'b': None}]], 'c': True}


def test_features_that_are_not_finite_are_not_measured():
    class Broken(torch.nn.Conv2d):
        def forward(self, x):
            return (super().forward(x) * math.nan,)
    meta = {'mean': [0, 0, 0], 'std': [1, 1, 1], 'channel_order': 'RGB'}
    with pytest.raises(RunFailed, match='broken: its features are not finite'):
        Measured('broken', Broken(3, 4, 1), meta).pooled(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_coco_scores_of_no_prediction():
    from densessl_plugins.mmdet.labels.coco import CocoScores
    metric = CocoScores.__new__(CocoScores)
    metric.format_only, metric.metrics, metric.metric_items = False, ['bbox'], None

    def scores(*annotations):
        metric._coco_api = SimpleNamespace(anns=dict(enumerate(annotations)))
        return metric.compute_metrics([(None, {'labels': []})])
    found = scores({'area': 100.0}, {'area': 1e6, 'iscrowd': 1})
    assert found == {f'bbox_{name}': -1.0 if name in ('mAP_m', 'mAP_l') else 0.0
                     for name in AVERAGES}
    assert set(scores().values()) == set(scores({'area': 9.0, 'iscrowd': 1}).values()) == {-1.0}


def test_panoptic_quality_of_kinds_that_do_not_occur(monkeypatch):
    from mmdet.evaluation import CocoPanopticMetric

    from densessl_plugins.mmdet.labels.panoptic import PanopticScores
    monkeypatch.setattr(CocoPanopticMetric, 'compute_metrics',
                        lambda self, results: {'PQ': 5.0, 'PQ_th': 0.0, 'PQ_st': 5.0})
    metric = PanopticScores.__new__(PanopticScores)
    metric.categories = {1: {'isthing': 1}, 2: {'isthing': 0}}

    def scores(*categories):
        segments = [{'category_id': one} for one in categories]
        metric._coco_api = SimpleNamespace(dataset={'annotations': [{'segments_info': segments}]})
        return {key for key, value in metric.compute_metrics([]).items() if not math.isnan(value)}
    assert scores(2, 2) == {'PQ', 'PQ_st'} and scores() == set()
    assert scores(1, 2) == {'PQ', 'PQ_th', 'PQ_st'}


def test_voc_scores_of_no_object(monkeypatch):
    from mmdet.evaluation import VOCMetric

    from densessl_plugins.mmdet.labels.voc import VocScores
    monkeypatch.setattr(VOCMetric, 'compute_metrics', lambda self, results: {'AP50': 0.0})
    metric = VocScores.__new__(VocScores)
    assert math.isnan(metric.compute_metrics([({'labels': []}, None)])['AP50'])
    assert metric.compute_metrics([({'labels': [1]}, None)]) == {'AP50': 0.0}
