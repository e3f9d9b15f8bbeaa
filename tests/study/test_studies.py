"""The studies that come with the project: each can be read and planned, and names no machine."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

from densessl.cli import main
from densessl.study.cells import Place
from densessl.study.graph import cells_of
from densessl.study.pretraining import Pretraining
from densessl.study.study import find_data, needed_data
from densessl.study.study_file import read_study

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / 'studies').rglob('*.yaml'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_study_can_be_planned(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = read_study(path)
    graph = cells_of(study, Place(tmp_path, find_data(study, []), study.sources))
    assert graph.scorings and len(graph.order) >= len(graph.scorings)
    trained = [cell for cell in graph.order if isinstance(cell, Pretraining)]
    assert len({cell.id for cell in trained}) == len(trained)
    names = [one.name for one in study.weights]
    budgets = {one.name: one.cpu_minutes for one in study.weights}
    assert len(set(names)) == len(budgets)
    assert needed_data(study) and not re.search(r'(?:^|[\s:"\'])/(?!/)\w', path.read_text())


def test_a_dry_run_lists_the_cells_with_their_cost(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = next(path for path in FILES if path.name == 'imagenet.yaml')
    assert main(['study', str(file), '--dry-run', '--out', str(tmp_path / 'out')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(re.match(r'[0-9a-f]{12}\s+120000\.0 min\s+DetCon-B, 300 epochs, seed 0: pretraining',
                        line) for line in lines)
    assert re.match(r'\d+ cells, 0 of them done; about \d+ min to do', lines[-2])
    assert 'imagenet, coco, voc, cityscapes (--data NAME=DIR)' in lines[-1]
    assert any(line.startswith('supervised: left out, because supervised is not given (--data '
                               'supervised=FILE)') for line in lines)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('words, said', [
    (['--data', 'roda=x'], '--data roda=x: NAME=DIR is needed; the study has the data coco, voc'),
    (['--data', 'coco=nowhere'], 'nowhere: there is no such folder or file'),
    (['--data', 'nowhere'], '--data nowhere: there is no such folder; give NAME=DIR, or a folder'),
    (['--jobs', '0'], '--jobs 0: at least 1 and at most 1024'),
    (['--budget', 'nan'], '--budget nan: at least 0'),
    ([], "data coco, COCO 2017 (https://cocodataset.org): say where it is with --data")])
def test_wrong_words_are_refused_before_anything_is_done(words, said, tmp_path, capsys):
    file = next(path for path in FILES if path.match('gpu/coco.yaml'))
    assert main(['study', str(file), '--out', str(tmp_path / 'out'), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_weights_are_a_file_and_how_they_are_trained_is_checked(tmp_path, capsys):
    file = next(path for path in FILES if path.name == 'continue.yaml')
    out = ['--out', str(tmp_path / 'out'), '--dry-run']
    assert main(['study', str(file), '--data', f'lite0={tmp_path}', *out]) == 2
    assert f'lite0 is the folder {tmp_path}, and the study takes w' in capsys.readouterr().err
    (tmp_path / 'lite0.pth').write_bytes(b'weights')
    wrong = tmp_path / 'wrong.yaml'
    wrong.write_text(file.read_text().replace('model.backbone: null,',
                                              'model.backbone: null, continuing.rate: -1,'))
    assert main(['study', str(wrong), '--data', f'lite0={tmp_path / "lite0.pth"}', *out]) == 2
    assert 'continuing.rate must be a number above 0' in capsys.readouterr().err


def test_data_are_found_where_they_usually_are(tmp_path, monkeypatch):
    study = read_study(next(path for path in FILES if path.name == 'table1.yaml'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('DENSESSL_STUDY_DATA', raising=False)
    assert find_data(study, []) == {}
    (tmp_path / 'data' / 'camvid').mkdir(parents=True)
    (tmp_path / 'other' / 'camvid').mkdir(parents=True)
    assert find_data(study, []) == {'camvid': tmp_path / 'data' / 'camvid'}
    monkeypatch.setenv('DENSESSL_STUDY_DATA', str(tmp_path / 'other'))
    assert find_data(study, []) == {'camvid': tmp_path / 'other' / 'camvid'}
    assert find_data(study, ['data']) == {'camvid': tmp_path / 'data' / 'camvid'}
    assert find_data(study, ['camvid=other', 'data'])['camvid'] == tmp_path / 'other'
