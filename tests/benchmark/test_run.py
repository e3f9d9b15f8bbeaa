"""The benchmark: what it plans, skips, refuses and survives. Runs are real, but in this process."""
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import draw_label_folder

from densessl.benchmark import run as module
from densessl.benchmark.plan import Benchmark, Run
from densessl.benchmark.run import run_benchmark
from densessl.cli import main
from densessl.errors import UsageError
from densessl.files.lock import RunLock
from densessl.finetune.downstream_config import read_downstream_config

TWIN = 'downstream/fcn_r18_folder'


class RunsHere:
    """Stands in for ``run_jobs``: notes which runs are started, and does them in this process."""

    def __init__(self):
        self.names, self.jobs, self.broken, self.stop_before = [], [], None, None

    def __call__(self, jobs, room, finished):
        self.jobs = list(jobs)
        for job in jobs:
            if job.about.name == self.stop_before:
                raise KeyboardInterrupt
            self.names.append(job.about.name)
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text('loading\nValueError: no luck\n\n')
            finished(job, 1 if job.about.name == self.broken else main(list(job.arguments)), 1.0)


@pytest.fixture
def runs_here(monkeypatch):
    stand_in = RunsHere()
    monkeypatch.setattr(module, 'run_jobs', stand_in)
    return stand_in


def benchmark(folder, label_folder, tiny, **changes):
    return Benchmark(**{'config': TWIN, 'backbones': {}, 'fractions': [0.5], 'seeds': 1,
                        'folder': folder, 'data_root': str(label_folder), 'options': tiny,
                        **changes})


def test_a_benchmark_grows_goes_on_and_outlives_failures(backbone18, label_folder, tiny, tmp_path,
                                                         runs_here, capsys):
    folder, own = tmp_path / 'b', {'own': str(backbone18)}
    tiny = {**tiny, 'train_cfg.max_iters': 1}
    arguments = ['benchmark', TWIN, '--backbones', f'own={backbone18}', '--fractions', '0.5',
                 '--seeds', '1', '--data-root', str(label_folder), '--work-dir', str(folder),
                 '--cfg-options', *(f'{key}={value}' for key, value in tiny.items())]
    runs_here.broken = 'own-fraction0.5-seed0'
    assert main(arguments) == 1                 # one run failed, the other is kept
    results = json.loads((folder / 'results.json').read_text())
    assert [run['initialization'] for run in results['runs']] == ['random']
    missing, = results['missing']
    assert missing['failed'] and missing['reason'] == 'ValueError: no luck'
    assert 'Failed: own-fraction0.5-seed0: ValueError: no luck' in (
        folder / 'results.md').read_text()
    assert 'FAILED (exit code 1): ValueError: no luck' in capsys.readouterr().out

    runs_here.broken, runs_here.names = None, []
    assert main(arguments) == 0                 # only what is missing is done
    assert runs_here.names == ['own-fraction0.5-seed0']
    said = capsys.readouterr().out
    assert '2 runs, 1 of them done already' in said and '| supervised | — |' in said
    assert 'supervised: blank because no file given' in said
    assert not list(folder.rglob('*.pth'))      # checkpoints of many runs would fill the disk

    runs_here.names = []
    runs_here.stop_before = 'random-fraction0.5-seed1'
    with pytest.raises(KeyboardInterrupt):      # what was done until then is in the results
        run_benchmark(benchmark(folder, label_folder, tiny, backbones=own, seeds=2))
    results = json.loads((folder / 'results.json').read_text())
    assert len(results['runs']) == 2 and len(results['missing']) == 2
    assert 'Unfinished: 2 runs are still to do' in (folder / 'results.md').read_text()
    assert {tuple(sorted(run)) for run in results['runs']} == {(
        'fraction', 'images', 'initialization', 'iterations', 'length', 'name', 'of', 'scores',
        'seconds', 'seed')}
    assert results['subsets'][0]['images'] == json.loads(
        (folder / 'runs/random-fraction0.5-seed0/subset.json').read_text())['images']
    for name in ('score_by_labels.png', 'report.html'):
        assert (folder / name).stat().st_size > 5000

    # other settings are refused before anything runs, and done again only when told to
    other = benchmark(folder, label_folder, {**tiny, 'train_cfg.max_iters': 2}, backbones=own)
    with pytest.raises(UsageError, match=r'holds a run of other settings: keys of the config'):
        run_benchmark(other)
    runs_here.stop_before = 'random-fraction0.5-seed0'
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(other, overwrite=True)
    assert runs_here.names == [] and len(runs_here.jobs) == 2
    assert all(job.arguments[-1] == '--overwrite' for job in runs_here.jobs)


def test_data_that_changed_in_between_are_refused(tiny, tmp_path, runs_here, capsys):
    root, tiny = draw_label_folder(tmp_path / 'data'), {**tiny, 'train_cfg.max_iters': 1}
    folder = tmp_path / 'b'
    run_benchmark(benchmark(folder, root, tiny, seeds=2))
    names = ['random-fraction0.5-seed0', 'random-fraction0.5-seed1']
    assert runs_here.names == names
    kept = shutil.copytree(root, tmp_path / 'kept')      # other times, nothing else
    shutil.rmtree(root)
    shutil.copytree(kept, root, copy_function=shutil.copyfile)
    again = benchmark(folder, root, tiny)
    run_benchmark(again)
    run = ['finetune', *again.finetuning(next(again.runs()), tiny).command()[1:], '--no-check']
    assert main(run) == 0 and runs_here.names == names
    assert 'done already: mIoU' in capsys.readouterr().out
    for kind in ('images', 'labels'):
        (root / kind / 'val' / '0.png').unlink()
    words = 'holds a run of other settings: images or labels of the data set have changed since'
    for changes in ({'seeds': 3}, {'fractions': [0.5, 1]}):
        with pytest.raises(UsageError, match=words):
            run_benchmark(benchmark(folder, root, tiny, **changes))
    assert main(run) == 2 and words in capsys.readouterr().err
    assert runs_here.names == names
    record = folder / 'runs/random-fraction0.5-seed0/run.json'
    record.write_text(json.dumps({key: value for key, value in json.loads(
        record.read_text()).items() if key not in ('labelled', 'input')}))
    assert main(run) == 0        # recorded before the data were
    again = benchmark(folder, root, tiny, seeds=2)
    runs_here.names, runs_here.stop_before = [], names[1]
    with pytest.raises(UsageError, match=words):
        run_benchmark(again)
    record.write_text(json.dumps({**json.loads(record.read_text()), 'labelled': 'other'}))
    with pytest.raises(KeyboardInterrupt):      # what is to be done again is not counted
        run_benchmark(again, overwrite=True)
    results = json.loads((folder / 'results.json').read_text())
    assert [run['name'] for run in results['runs']] == runs_here.names == names[:1]
    runs_here.stop_before = None
    assert len(run_benchmark(again, overwrite=True)['runs']) == 2 and runs_here.names == names


def test_runs_come_seed_by_seed_and_have_names_of_their_own(label_folder, tiny, tmp_path):
    plan = list(benchmark(tmp_path, label_folder, tiny, fractions=[1.0, 0.1, 0.1], seeds=2,
                          lengths=[2, 0.5, 1]).runs())
    assert len(plan) == 1 * 2 * 3 * 2 == len({run.name for run in plan})
    assert [run.seed for run in plan] == [0] * 6 + [1] * 6
    assert plan[0] == Run('random', 0.1, 0.5, 0)
    assert plan[0].name == 'random-fraction0.1-length0.5-seed0'
    assert Run('random', 0.1, 1.0, 0).name == 'random-fraction0.1-seed0'   # with or without lengths


def test_lengths_stretch_the_run_its_evaluations_and_its_schedule(label_folder, tiny, tmp_path):
    plan = benchmark(tmp_path, label_folder, {'train_cfg.max_iters': 400})
    cfg, _ = read_downstream_config(TWIN, plan.options)
    assert plan.options_of(1, cfg) is plan.options
    options = plan.options_of(0.25, cfg)
    assert options == {'train_cfg.max_iters': 100, 'train_cfg.val_interval': 75}
    short, _ = read_downstream_config(TWIN, options)
    assert short.param_scheduler[0].milestones == [70, 90]
    epochs, _ = read_downstream_config('downstream/mask_rcnn_r18_coco')
    unit = 'max_epochs' if 'max_epochs' in epochs.train_cfg else 'max_iters'
    assert plan.options_of(2, epochs)[f'train_cfg.{unit}'] == 2 * epochs.train_cfg[unit]


@pytest.mark.parametrize(('changes', 'words'), [
    ({'fractions': [0.0]}, r'--fractions 0: above 0 and at most 1'),
    ({'fractions': []}, r'--fractions: at least one'),
    ({'lengths': [-1]}, r'--lengths -1: above 0'),
    ({'seeds': 0}, r'--seeds 0: at least 1'),
    ({'backbones': {'random': 'x.pth'}}, r"the name 'random' is taken"),
    ({'backbones': {'a b': 'x.pth'}}, r"'a b' may only have letters"),
    ({'backbones': {'own': 'nowhere.pth'}}, r'no file nowhere.pth'),
])
def test_wrong_plans_are_one_clear_line(changes, words, label_folder, tiny, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        benchmark(tmp_path, label_folder, tiny, **changes)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--backbones', 'own.pth'], 'NAME=FILE is needed'),
    (['--data-root', 'nowhere'], 'no folder nowhere'),
    (['--freeze', '5'], 'has 4 stages; give 0'),
    (['--keep', 'stm'], "did you mean 'stem'"),
    (['--freeze', '1', '--keep', 'frozen'], 'contradict each other'),
])
def test_wrong_arguments_end_before_any_run(arguments, words, label_folder, tmp_path, capsys,
                                            runs_here):
    assert main(['benchmark', TWIN, '--work-dir', str(tmp_path / 'b'), '--data-root',
                 str(label_folder), *arguments]) == 2
    assert words in capsys.readouterr().err and runs_here.names == []
    assert not (tmp_path / 'b').exists()


def test_weights_without_a_translation_end_before_any_run(make_checkpoint, label_folder, tiny,
                                                          tmp_path, runs_here):
    from densessl.export.export import export_backbone
    for name, words in (('torchvision.regnet_y_400mf', 'no exact translation'),
                        ('timm.convnext_atto', r'TIMMBackbone; .*is a ResNet')):
        path = export_backbone(make_checkpoint({'type': name})).path
        with pytest.raises(UsageError, match=words):
            run_benchmark(benchmark(tmp_path / 'b', label_folder, tiny, backbones={'x': str(path)}))
    assert runs_here.names == [] and not (tmp_path / 'b').exists()


@pytest.mark.slow
def test_random_weights_have_the_network_and_input_of_the_backbones(
        backbone18, make_checkpoint, label_folder, tiny, tmp_path, runs_here):
    from densessl.export.export import export_backbone
    own = export_backbone(make_checkpoint({'type': 'mmseg.ResNetV1c', 'depth': 18})).path
    tiny = {**tiny, 'train_cfg.max_iters': 1, 'model.backbone.type': 'ResNetV1c'}
    backbones = {'own': str(own), 'other': str(backbone18)}
    results = run_benchmark(benchmark(tmp_path / 'b', label_folder, tiny, backbones=backbones),
                            keep_weights=True)
    assert len(results['runs']) == 3
    stems = {name: 'backbone.stem.0.weight' in torch.load(
        tmp_path / f'b/runs/{name}-fraction0.5-seed0/iter_1.pth', weights_only=True)['state_dict']
        for name in results['initializations']}
    assert stems == {'random': True, 'own': True, 'other': False}
    kept = json.loads((tmp_path / 'b/results.json').read_text())['baseline']
    assert (kept['like'], kept['network']['type']) == ('own', 'ResNetV1c')
    assert kept['input']['mean'] == [120.0, 110.0, 100.0]
    assert kept['differing'] == {'other': ['model.backbone.type ResNet instead of ResNetV1c']}
    said = (tmp_path / 'b/results.md').read_text()
    assert 'random: trained with the network and the input of own.' in said
    assert 'other had another network or input than random' in said
    runs_here.names.clear()
    run_benchmark(benchmark(tmp_path / 'b', label_folder, tiny, backbones=backbones))
    assert runs_here.names == []
    # alone, random weights would have been trained on another network: refused, not mixed
    with pytest.raises(UsageError, match='random weights on another network or input'):
        run_benchmark(benchmark(tmp_path / 'b', label_folder, tiny))


def test_weights_of_another_depth_end_before_any_run(backbone18, label_folder, tiny, tmp_path,
                                                     runs_here):
    plan = benchmark(tmp_path / 'b', label_folder, {**tiny, 'model.backbone.depth': 34},
                     backbones={'own': str(backbone18)})
    with pytest.raises(UsageError, match='120 of 216 keys loaded; 96 missing'):
        run_benchmark(plan)
    assert runs_here.names == [] and not (tmp_path / 'b').exists()


def test_two_benchmarks_do_not_share_a_folder(label_folder, tiny, tmp_path, runs_here, monkeypatch):
    monkeypatch.setattr('densessl.files.lock.GRACE', 0.1)
    with RunLock(tmp_path), pytest.raises(UsageError, match='another benchmark is at work in'):
        run_benchmark(benchmark(tmp_path, label_folder, tiny))
    assert runs_here.names == []
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match='is a file'):
        run_benchmark(benchmark(tmp_path / 'file', label_folder, tiny))


@pytest.mark.slow
def test_how_a_model_is_trained_is_passed_on_to_its_runs(label_folder, tiny, tmp_path, runs_here):
    options = {**tiny, 'train_cfg.max_iters': 1}
    plan = benchmark(tmp_path / 'b', label_folder, options, freeze=0, keep=['input', 'norm'])
    run_benchmark(plan)
    folder = plan.run_folder(Run('random', 0.5, 1.0, 0))
    settings = json.loads((folder / 'run.json').read_text())
    assert (settings['freeze'], settings['keep']) == (0, ['input', 'norm'])
    runs_here.names.clear()
    run_benchmark(plan)
    assert runs_here.names == []     # the same settings: nothing is left to do
    with pytest.raises(UsageError, match='freeze 0, not None'):
        run_benchmark(benchmark(tmp_path / 'b', label_folder, options, keep=['input', 'norm']))


@pytest.mark.slow
def test_a_run_that_was_under_way_is_gone_on_with(label_folder, tiny, tmp_path, runs_here):
    options = {**tiny, 'train_cfg.max_iters': 2, 'default_hooks.checkpoint.interval': 1}
    one = benchmark(tmp_path / 'b', label_folder, options)
    run_benchmark(one, keep_weights=True)
    folder = one.run_folder(runs_here.jobs[0].about)
    assert json.loads((folder / 'scores.json').read_text())['resumed_from'] is None
    for name in ('scores.json', 'iter_2.pth'):      # as if it had been killed before
        (folder / name).unlink()
    run_benchmark(one)
    assert json.loads((folder / 'scores.json').read_text())['resumed_from'] == 'iter_1.pth'


def test_killed_and_started_again_it_skips_what_is_done(label_folder, tiny, tmp_path):
    folder = tmp_path / 'b'
    command = [sys.executable, str(Path(__file__).parents[2] / 'tools/benchmark.py'), TWIN,
               '--fractions', '0.5', '1', '--seeds', '1', '--data-root', str(label_folder),
               '--work-dir', str(folder), '--cfg-options',
               *(f'{key}={value}' for key, value in tiny.items())]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in first.stdout:
        if line.startswith('[1/2]'):
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert '2 runs, 1 of them done already' in again.stdout and '[2/2]' in again.stdout
    assert '[1/2]' not in again.stdout
    shutil.rmtree(folder)
