"""What a fine-tuning run is: its command makes the same run, and what it was is found again."""
import argparse
import json
from pathlib import Path

import pytest

from densessl.commands import finetune as command
from densessl.errors import UsageError
from densessl.finetune.run import FinetuneRun
from densessl.finetune.weights import Weights
from densessl.pixels.pixel_rule import PixelRule

OWN = Weights(Path('runs/own.pth'), {}, {'sha256': 'abc'})
RUNS = [
    FinetuneRun('some/config'),
    FinetuneRun('some/config', OWN, 'data', 0.1, 3, {'a.b': [1, 'x'], 'c': None, 'd': 'a b'},
                ('stem', 'input'), 2, None, PixelRule((0, 4095), (3, 2, 1)), True, 'here'),
    FinetuneRun('c', like=OWN, freeze=0, fraction=1e-5, pixels=PixelRule('minmax')),
    FinetuneRun('c', pixels=PixelRule(('percentile', 1, 99.5), (4,)), options={'seed': '3'}),
]


@pytest.mark.parametrize('run', RUNS)
def test_the_command_makes_the_same_run(run, monkeypatch):
    made = []
    monkeypatch.setattr('densessl.finetune.finetune.finetune', lambda one, **_: made.append(one))
    monkeypatch.setattr(Weights, 'load', lambda path: {str(OWN.path): OWN}[path])
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    name, *words = run.command()
    command.run(parser.parse_args([*words, '--no-check', '--resume']))
    again, = made
    assert name == 'finetune' and again.command() == run.command()
    assert again.identity('1', None) == run.identity('1', None)
    assert (again.weights, again.like, again.options) == (run.weights, run.like, run.options)
    assert again.folder() == run.folder() and again.allow_partial == run.allow_partial


def test_a_run_is_told_apart_by_what_earlier_versions_wrote_down(tmp_path):
    run = FinetuneRun('configs/own.py', OWN, tmp_path, 0.5, 1, {'a': 1}, ('stem', 'input'), 2,
                      pixels=PixelRule((0, 4095)), work_dir='elsewhere')
    identity = {'config': 'own', 'config_hash': 'f' * 12, 'backbone': 'abc',
                'data_root': str(tmp_path), 'fraction': 0.5, 'seed': 1, 'keep': ['input', 'stem'],
                'freeze': 2, 'pixels': {'value_range': [0, 4095]}, 'like': None,
                'input': '[null, null, null]'}
    assert json.dumps(run.identity('f' * 12, None)) == json.dumps(identity)
    plain = FinetuneRun('downstream/c', like=OWN).identity('f', '9')
    assert (plain['backbone'], plain['data_root'], plain['pixels'], plain['like']) == (
        'random', None, None, '9')
    corrected = Weights(OWN.path, {}, {**OWN.meta, 'mean': [1, 2, 3]})
    assert FinetuneRun('c', corrected).identity('f', None) != FinetuneRun('c', OWN).identity(
        'f', None)
    assert FinetuneRun('c').identity('f', None)['input'] is None


def test_without_a_name_a_folder_says_what_is_in_it():
    assert FinetuneRun('downstream/c.py', OWN, fraction=0.10, seed=2).folder() == Path(
        'work_dirs/c-own-0.1-seed2')
    assert FinetuneRun('c').folder() == Path('work_dirs/c-random-1-seed0')


@pytest.mark.parametrize(('values', 'words'), [
    ({'fraction': 0.0}, 'above 0 and at most 1'), ({'seed': -1}, '4294967295, not -1'),
    ({'weights': OWN, 'like': OWN}, '--like runs/own.pth is for --backbone random')])
def test_what_no_run_can_have_is_refused(values, words):
    with pytest.raises(UsageError, match=words):
        FinetuneRun('c', **values)
