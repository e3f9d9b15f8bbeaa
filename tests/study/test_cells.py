"""The cells of a study: their identity, their order, the commands that do them."""
from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from densessl.errors import UsageError
from densessl.study.cells import Place, options_of, words_of
from densessl.study.evaluating import Finetuning, Probe
from densessl.study.graph import cells_of, finish_times
from densessl.study.pretraining import Calibration, Pretraining
from densessl.study.recipe import DrawnLabels, Masks, image_source
from densessl.study.study_file import read_study

STUDY = {
    'against': 'random', 'seeds': [3, 4], 'calibration': [1, 3],
    'data': {'photos': None, 'road': None, 'maps': {'label_maps_of': 'road', 'classes': ['car']}},
    'pretraining': {'data': 'photos', 'cpu_minutes': 2},
    'pretrainings': {'random': {'weights': 'random', 'backbone': 'torchvision.resnet18',
                                'like': 'own'},
                     'own': {'config': 'small/detcon_s_r18'},
                     'other': {'config': 'small/simclr_r18',
                               'options': {'model.temperature': 0.2}}},
    'evaluations': {'probe': {'probe': 'dense', 'data': 'road', 'fractions': ['1/8', 1],
                              'arguments': {'ignore': [11]}},
                    'maps': {'probe': 'dense', 'data': 'maps'}}}


@pytest.fixture
def place(tmp_path):
    for name in ('photos', 'road'):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f'{i}.jpg').write_bytes(b'x' * (i + 1))
    return Place(tmp_path / 'out', {name: tmp_path / name for name in ('photos', 'road')}, {},
                 'a processor', 1)


def made(place, tmp_path, machine='a processor', **changes):
    (tmp_path / 's.yaml').write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    study = read_study(tmp_path / 's.yaml')
    return cells_of(study, replace(place, sources=study.sources, machine=machine,
                                   paths=dict(place.paths), digests={}))


def of_kind(graph, kind):
    return [cell for cell in graph.order if type(cell) is kind]


def test_every_cell_is_there_once_and_after_what_it_needs(place, tmp_path):
    graph = made(place, tmp_path)
    ids = [cell.id for cell in graph.order]
    assert len(set(ids)) == len(ids)
    for cell in graph.order:
        assert all(ids.index(one.id) < ids.index(cell.id) for one in cell.after)
    counts = {kind: len(of_kind(graph, kind)) for kind in (Masks, Calibration, Pretraining, Probe,
                                                           DrawnLabels)}
    assert counts == {Masks: 1, Calibration: 2, Pretraining: 4, Probe: 18, DrawnLabels: 1}
    labels = [cell.label for cell in graph.scorings]
    assert labels[:4] == ['random, seed 3: probe, 1/8 of the labels',
                          'own, 2 CPU-min, seed 3: probe, 1/8 of the labels',
                          'other, 2 CPU-min, seed 3: probe, 1/8 of the labels',
                          'random, seed 3: probe']        # all methods, before what comes next
    assert {cell.seed for cell in graph.scorings[:9]} == {3}


def test_identity_is_what_decides_the_result(place, tmp_path):
    def ids(kind, **changes):
        return [cell.id for cell in of_kind(made(place, tmp_path, **changes), kind)]

    for kind in (Masks, Calibration, Pretraining, Probe):
        assert ids(kind) == ids(kind)
    renamed = {**STUDY['pretrainings'], 'new name': STUDY['pretrainings']['other']}
    del renamed['other']
    assert ids(Pretraining, pretrainings=renamed) == ids(Pretraining)
    same = {'config': 'small/detcon_s_r18', 'options': {'model.temperature': 0.1}}   # what it is
    assert ids(Pretraining, pretrainings={**STUDY['pretrainings'], 'own': same}) == ids(Pretraining)
    other = {'config': 'small/detcon_s_r18', 'options': {'model.temperature': 0.3}}
    changed = {**STUDY['pretrainings'], 'own': other}
    assert ids(Masks, pretrainings=changed) == ids(Masks)
    assert len(set(ids(Pretraining, pretrainings=changed)) & set(ids(Pretraining))) == 2
    longer = ids(Pretraining, pretraining={'data': 'photos', 'cpu_minutes': 3})
    assert not set(longer) & set(ids(Pretraining))
    # a step takes another time on another machine; weights that were made there are the same
    assert not set(ids(Calibration, machine='b')) & set(ids(Calibration))
    assert ids(Pretraining, machine='b') == ids(Pretraining)
    assert ids(Probe, machine='b') == ids(Probe)
    (tmp_path / 'photos' / '0.jpg').write_bytes(b'other')
    assert not set(ids(Pretraining)) & set(longer)


def test_data_elsewhere_is_the_same_data(place, tmp_path):
    before = [cell.id for cell in made(place, tmp_path).order]
    (tmp_path / 'photos').rename(tmp_path / 'moved')
    place.paths['photos'] = tmp_path / 'moved'
    assert [cell.id for cell in made(place, tmp_path).order] == before


def test_steps_are_those_that_the_time_is_enough_for(place, tmp_path, monkeypatch):
    cell = of_kind(made(place, tmp_path), Pretraining)[0]
    records = {'masks': {'cpu_seconds': 10.0},
               'calibration': {'cpu_seconds_a_step': 2.0, 'cpu_seconds_to_start': 5.0}}
    for kind in (Masks, Calibration):
        monkeypatch.setattr(kind, 'record', lambda self, place: records[self.kind])
    assert cell.steps(place, 1000) == 52                # (2 · 60 − 10 − 5) / 2
    train = cell.command(place, [])
    epochs = float(train[train.index('--epochs') + 1])
    assert int(epochs * 3 // 64) == 52                  # as the plan of a run counts them
    assert '--resume' in train and "seed=3" in train and '--masks' in train
    export = cell.command(place, [{}])
    assert export[:2] == ['export', str(cell.folder(place) / 'run' / 'iter_52.pth')]
    assert cell.command(place, [{}, {}]) is None
    records['calibration']['cpu_seconds_a_step'] = 200.0
    with pytest.raises(UsageError, match=r'2 CPU-minutes are not enough for one step of 200\.0 s'):
        cell.steps(place, 1000)


def test_a_calibration_is_as_long_as_it_must_be(place, tmp_path):
    cell = of_kind(made(place, tmp_path), Calibration)[0]
    cost = lambda steps: {'cpu_seconds': 6.0 + 0.5 * steps, 'seconds': 0.0}     # noqa: E731
    runs = []
    while len(steps := cell.lengths(runs)) > len(runs):
        runs.append(cost(steps[-1]))
    assert steps == [1, 3, 48]           # 2 steps are 1 s: 15 s are needed, and half of it more
    found = cell.outcome(place, runs)
    assert found['cpu_seconds_a_step'] == pytest.approx(0.5)
    assert found['cpu_seconds_to_start'] == pytest.approx(6.0)
    with pytest.raises(UsageError, match='took no more CPU time than 1'):
        cell.outcome(place, [cost(1)] * 4)


def test_a_calibration_whose_first_run_fills_a_cache(place, tmp_path):
    cell = of_kind(made(place, tmp_path), Calibration)[0]
    runs = []
    while len(steps := cell.lengths(runs)) > len(runs):
        cache = 0 if runs else 24.0
        runs.append({'cpu_seconds': cache + 6.0 + 0.5 * steps[-1], 'seconds': 0.0})
    assert steps == [1, 3, 48]
    found = cell.outcome(place, runs)
    assert found['cpu_seconds_a_step'] == pytest.approx(0.5)
    assert found['cpu_seconds_to_start'] == pytest.approx(30.0)     # the cache included


def test_commands_of_probes_and_fine_tuning(place, tmp_path):
    graph = made(place, tmp_path)
    random = next(cell for cell in graph.scorings if cell.weights.name == 'random')
    words = random.command(replace(place, sources=dict.fromkeys(place.paths)), [])
    assert words[:4] == ['probe', 'random', '--backbone-type', 'torchvision.resnet18']
    assert words[words.index('--fraction') + 1] == '0.125'
    assert words[words.index('--ignore') + 1] == '11' and words[words.index('--seed') + 1] == '3'
    model = {'model': {'finetune': 'downstream/fcn_r18_folder', 'data': 'road', 'lengths': [0.5],
                       'options': {'labels.ignore': 11}}}
    graph = made(place, tmp_path, evaluations=model)
    random = next(cell for cell in graph.scorings if cell.weights.name == 'random')
    assert type(random) is Finetuning and random.like.seed == 3
    words = random.command(replace(place, sources=dict.fromkeys(place.paths)), [])
    assert words[words.index('--like') + 1] == str(random.like.backbone(place))
    assert {'labels.ignore=11', 'train_cfg.max_iters=150'} <= set(words)


def test_rows_of_another_network_are_fine_tuned_by_another_config(place, tmp_path):
    model = {'finetune': 'downstream/fcn_r18_folder', 'data': 'road'}
    before = made(place, tmp_path, evaluations={'model': model})
    model['instead'] = {'random': 'downstream/fcn_lite0_folder'}
    graph = made(place, tmp_path, evaluations={'model': model})
    place = replace(place, sources=dict.fromkeys(place.paths))
    for old, new in zip(before.scorings, graph.scorings, strict=True):
        random = new.weights.name == 'random'
        assert new.command(place, [])[1] == ('downstream/fcn_lite0_folder' if random else
                                             'downstream/fcn_r18_folder')
        assert (new.id != old.id) is random


def test_options_with_places_of_data_in_them(place):
    place = replace(place, sources=dict.fromkeys(place.paths))
    assert words_of({'ignore': [11, 12], 'square': True, 'stage': None}, place) == [
        '--ignore', '11', '12', '--square']
    assert options_of({'masks.folder': '{road}/x', 'a': [1, 2]}, place) == [
        '--cfg-options', f"masks.folder='{place.paths['road']}/x'", 'a=[1, 2]']


def test_a_pretraining_may_start_from_a_file_and_learn_from_one(place, tmp_path):
    rows = {'start': {'weights': 'start'},
            'continued': {'config': 'small/simclr_r18', 'init': 'start',
                          'options': {'model.backbone': None}},
            'distilled': {'config': 'small/distill_r18', 'options': {'model.teacher': '{start}'}}}
    changes = {'pretrainings': rows, 'against': 'start',
               'data': {**STUDY['data'], 'start': 'weights'}}
    blank = made(place, tmp_path, **changes)
    assert not of_kind(blank, Pretraining) and not blank.scorings       # nobody gave the file
    file = tmp_path / 'start.pth'
    file.write_bytes(b'weights')
    place.paths['start'] = file
    graph = made(place, tmp_path, **changes)
    continued, distilled = of_kind(graph, Pretraining)[:2]
    place = replace(place, sources=dict.fromkeys(place.paths))
    words = continued.recipe.train(place, tmp_path / 'photos', 3, tmp_path / 'run', 9, {}, None)
    assert words[words.index('--init') + 1] == str(file) and 'model.backbone=None' in words
    assert '--resume' not in words      # refused where nothing was begun
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'start.pth').write_bytes(b'')
    assert '--resume' in continued.recipe.train(place, tmp_path / 'photos', 3, tmp_path / 'run', 9,
                                                {}, None)
    words = distilled.recipe.train(place, tmp_path / 'photos', 3, tmp_path / 'run', 9, {}, None)
    assert '--init' not in words and f"model.teacher='{file}'" in words
    rows['continued']['options']['continuing.rate'] = 0.5
    slower = of_kind(made(place, tmp_path, **changes), Pretraining)[:2]
    assert slower[0].id != continued.id and slower[1].id == distilled.id
    file.write_bytes(b'other weights')
    others = of_kind(made(place, tmp_path, **changes), Pretraining)[:2]
    assert not {one.id for one in others} & {continued.id, distilled.id}


def test_several_folders_become_one_list(place, tmp_path):
    place = replace(place, sources=dict.fromkeys(place.paths))
    source = image_source(['photos', 'road'], place)
    assert source.read_text().splitlines() == [
        str(tmp_path / name / f'{i}.jpg') for name in ('photos', 'road') for i in range(3)]
    before = source.stat().st_mtime_ns
    assert image_source(['photos', 'road'], place).stat().st_mtime_ns == before
    assert image_source(['road'], place) == tmp_path / 'road'


def test_data_that_nobody_has_given_is_asked_for(tmp_path):
    (tmp_path / 's.yaml').write_text(yaml.safe_dump(
        {**STUDY, 'data': {**STUDY['data'], 'photos': {'what': '9 photos', 'url': 'http://y'}}}))
    study = read_study(tmp_path / 's.yaml')
    place = Place(tmp_path, {}, study.sources)
    assert len(cells_of(study, place).order) == 26       # a dry run needs none
    with pytest.raises(UsageError, match=r'data photos, 9 photos \(http://y\): say where it is '
                                         r'with --data photos=DIR'):
        place.path('photos')


def test_times_with_several_at_once(place, tmp_path):
    graph = made(place, tmp_path)
    minutes = dict.fromkeys((cell.id for cell in graph.order), 1.0)
    one = finish_times(graph.order, minutes, 1)
    two = finish_times(graph.order, minutes, 2)
    assert max(one.values()) == len(graph.order) and max(two.values()) == len(graph.order) / 2
    for cell in graph.order:
        assert all(two[before.id] <= two[cell.id] - 1 for before in cell.after)
