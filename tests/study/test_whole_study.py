"""A whole study, by the command, with real runs: minutes."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from densessl.demo.sample import write_scenes

TINY = {'views.0.size': 32, 'views.1.size': 32, 'global_batch': 4}


@pytest.mark.slow
def test_a_study_pretrains_scores_and_goes_on(tmp_path):
    scenes = write_scenes(tmp_path / 'data' / 'scenes', unlabelled=12, train=4, val=2,
                          size=(64, 64))
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump({
        'against': 'random', 'seeds': [0], 'calibration': [1, 3],
        'data': {'scenes': None, 'maps': {'label_maps_of': 'scenes', 'classes': ['ball']}},
        'pretraining': {'data': 'scenes/unlabelled', 'cpu_minutes': 0.4, 'options': TINY},
        'pretrainings': {
            'random': {'weights': 'random', 'backbone': 'torchvision.resnet18', 'like': 'own'},
            'own': {'config': 'small/detcon_s_r18'}},
        'evaluations': {
            'probe': {'probe': 'dense', 'data': 'scenes', 'fractions': ['1/2'],
                      'arguments': {'size': 64}},
            'balls': {'probe': 'dense', 'data': 'maps', 'arguments': {'size': 64}},
            'model': {'finetune': 'downstream/fcn_r18_folder', 'data': 'scenes', 'lengths': [0.01],
                      'options': {'train_dataloader.num_workers': 0,
                                  'val_dataloader.num_workers': 0}}}}, sort_keys=False))
    command = [sys.executable, '-m', 'densessl', 'study', 'tiny.yaml', '--jobs', '2']
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / 'work_dirs/studies/tiny/results.json').read_text())
    assert not results['missing'] and len(results['cells']) == 6
    assert str(tmp_path) not in json.dumps(results) and scenes.is_dir()
    own, = results['weights']
    cost = own['cpu_seconds_of_training'] + own['cpu_seconds_of_masks']
    assert cost == pytest.approx(24, rel=0.5)
    assert own['images_seen'] == own['steps'] * 4 and own['cpu_minutes_given'] == 0.4
    assert (tmp_path / 'work_dirs/studies/tiny/features.png').stat().st_size > 1000
    again = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
    assert '10 cells, 10 of them done already' in again.stdout
