"""A study's file: what it says, and what is refused in one line."""
from __future__ import annotations

from pathlib import Path

import pytest

from densessl.cli import main
from densessl.errors import UsageError
from densessl.study.plan import share
from densessl.study.study_file import read_study

STUDY = """
title: T
against: random
seeds: [0, 1]
data: {photos: some photos, road: {what: scenes, url: http://x}, maps: {label_maps_of: road}}
pretraining: {data: photos, cpu_minutes: [2, 8], options: {a.b: 1, c: 2}}
pretrainings:
  random: {weights: random, backbone: torchvision.resnet18}
  own: {config: small/simclr_r18, options: {a.b: 3}}
  long: {config: small/simclr_r18, epochs: 5, data: [photos, road/train]}
evaluations:
  probe: {probe: dense, data: road, fractions: [1/8, 1], arguments: {ignore: [11]}}
  model: {finetune: downstream/fcn_r18_folder, data: maps, lengths: [1, 0.5], scores: [mIoU, aAcc]}
"""


@pytest.fixture
def study(tmp_path):
    def write(old='', new=''):
        assert old in STUDY
        (tmp_path / 'one.yaml').write_text(STUDY.replace(old, new) if old else STUDY)
        return read_study(tmp_path / 'one.yaml')
    return write


def test_lists_are_written_out(study):
    found = study()
    assert (found.name, found.seeds, found.against) == ('one', (0, 1), 'random')
    rows = [(one.name, one.cpu_minutes, one.epochs, one.data) for one in found.weights]
    assert rows == [('random', None, None, ()), ('own', 2, None, ('photos',)),
                    ('own', 8, None, ('photos',)), ('long', None, 5, ('photos', 'road/train'))]
    assert found.weights[1].options == {'a.b': 3, 'c': 2}     # its own above those of all
    columns = [(one.name, one.fraction, one.length, one.scores) for one in found.evaluations]
    assert columns == [('probe', 0.125, 1.0, ('mIoU',)), ('probe', 1.0, 1.0, ('mIoU',)),
                       ('model', 1.0, 1, ('mIoU', 'aAcc')), ('model', 1.0, 0.5, ('mIoU', 'aAcc'))]


def test_what_is_listed_twice_is_there_once(study):
    found = study('[1/8, 1]', '[1/8, 1, 1.0, "1/1", 0.125]')
    assert [one.fraction for one in found.evaluations[:-2]] == [0.125, 1]
    found = study('lengths: [1, 0.5], scores: [mIoU, aAcc]',
                  'lengths: [1, 1.0, 0.5], scores: [mIoU, aAcc, mIoU]')
    assert [(one.length, one.scores) for one in found.evaluations[2:]] == [
        (1, ('mIoU', 'aAcc')), (0.5, ('mIoU', 'aAcc'))]
    found = study('{a.b: 3}', '{a.b: 3}, seeds: [0, 0, 1, 0], cpu_minutes: [2, 2.0]')
    assert [(one.name, one.seeds) for one in found.weights[1:]] == [('own', (0, 1)), ('long', None)]


def test_a_merged_key_is_not_given_twice(study):
    found = study('own: {config: small/simclr_r18, options: {a.b: 3}}\n  long: {config',
                  'own: &own {config: small/simclr_r18, epochs: 2}\n  long: {<<: *own, config')
    assert [one.epochs for one in found.weights] == [None, 2, 5]


@pytest.mark.parametrize('old, new, words', [
    ('seeds: [0, 1]', 'seeds: [0, 1]\nseeds: [0]',
     "cannot be read as YAML: the key 'seeds' is given twice in line 5"),
    ('  long: {config', '  own: {config', "the key 'own' is given twice in line 10"),
    ('epochs: 5,', 'epochs: 5, "epochs": 6,', "the key 'epochs' is given twice in line 10"),
    ('title: T', 'title: 2020-99-99', 'cannot be read as YAML: month must be in 1..12'),
    ('title: T', 'titel: T', "unknown key 'titel' in the study (did you mean 'title'?)"),
    ('seeds: [0, 1]', 'seeds: [0, -1]', 'the study: seeds must be a list, each a whole number'),
    ('probe: dense', 'probe: deep', "evaluations.probe: probe must be 'dense' or"),
    ('{probe: dense, data', '{probe: dense, finetune: x, data', 'evaluations.probe: give probe '
     '(dense, linear or knn) or finetune'),
    ('data: road, f', 'data: raod, f', "evaluations.probe.data: 'raod' is not in the file (did you "
     "mean 'road'?)"),
    ('1/8, 1]', '9/8]', "evaluations.probe.fractions: '9/8' must be above 0 and at most 1, such"),
    ('{ignore: [11]}', '{ignroe: [11]}', "unknown key 'ignroe' in evaluations.probe.arguments"),
    ('{config: small/simclr_r18, epochs: 5', '{epochs: 5', 'pretrainings.long: give config'),
    ('epochs: 5', 'epochs: 5, cpu_minutes: 1', 'pretrainings.long: give epochs or cpu_minutes'),
    ('{weights: random, backbone', '{weights: random, like: nobody, backbone',
     "pretrainings.random.like: 'nobody' is not in the file"),
    ('backbone: torchvision.resnet18', 'note: x', 'pretrainings.random: random weights need a'),
    ('against: random', 'against: nothing', "against: 'nothing' is not in the file"),
    ('title: T', 'title: [T', 'cannot be read as YAML: '),
    ('title: T', 'calibration: [5, 5]', 'calibration [5, 5]: the second run must have more steps'),
    ('title: T', 'name: a/b', "name 'a/b': letters, digits, - and _ only"),
    ('photos: some photos', '"a b": x, photos: p', 'data.a b: a name has letters, digits and'),
    ('arguments:', 'options:', 'evaluations.probe.options does nothing here: a probe takes'),
    ('arguments:', 'instead: {own: x}, arguments:', 'evaluations.probe.instead does nothing here'),
    ('lengths: [1, 0.5]', 'instead: {onw: x}', "evaluations.model.instead: 'onw' is not in the "
     "file (did you mean 'own'?)"),
    ('lengths: [1, 0.5]', 'instead: x', 'evaluations.model: instead must be a dict'),
    ('backbone: torchvision.resnet18', 'backbone: torchvision.resnet18, epochs: 5',
     'pretrainings.random.epochs does nothing for weights that are not trained here'),
    ('a.b: 3', 'init: x', 'pretrainings.own.options.init: give init as a key of its own'),
    ('{data: photos, cpu', '{weights: nobody, data: photos, cpu', "unknown key 'weights' in "
     'pretraining'),
    ('label_maps_of: road', 'label_maps_of: rode', "data.maps.label_maps_of: 'rode' is not"),
])
def test_what_is_wrong_is_named_with_choices(study, old, new, words):
    with pytest.raises(UsageError) as error:
        study(old, new)
    assert words in str(error.value) and 'one.yaml' in str(error.value)
    assert '\n' not in str(error.value)


def test_what_is_no_study_is_refused_by_the_command(tmp_path, capsys):
    (tmp_path / 'empty.yaml').write_text('')
    assert main(['study', str(tmp_path / 'empty.yaml')]) == 2
    assert 'the study must be keys with values, not None' in capsys.readouterr().err
    assert main(['study', str(tmp_path / 'none.yaml')]) == 2
    assert f'cannot read {tmp_path / "none.yaml"}' in capsys.readouterr().err
    assert not Path('work_dirs/studies').exists()


def test_fractions_in_words():
    assert [share(one) for one in (1, 1 / 8, 1 / 32, 0.3)] == [
        'all labels', '1/8 of the labels', '1/32 of the labels', '30 % of the labels']
