"""The pass over the data within a run and a benchmark, and sets with cut photos."""
import json

import pytest
from mmengine.registry import DATASETS, DefaultScope
from planted_faults import FAULTS, cut, draw, plant, run_check

from densessl.benchmark import run as benchmark
from densessl.benchmark.plan import Benchmark
from densessl.benchmark.run import run_benchmark
from densessl.cli import main
from densessl.errors import UsageError
from densessl.finetune import labelled_data
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.finetune import finetune
from densessl.finetune.labelled_subset import take_fraction
from densessl.finetune.run import FinetuneRun
from densessl.labels.data_check import check_data
from densessl.labels.pixel_labels import PixelData, find_pixel_labels

TWIN = 'downstream/fcn_r18_folder'


def test_a_run_ends_before_anything_is_trained(classes, tiny, tmp_path, capsys):
    pairs = draw(tmp_path / 'data', 'folder', len(FAULTS) + 1)
    (tmp_path / 'data/classes.json').write_text(classes)
    planted = plant(pairs[:-1])
    command = ['finetune', TWIN, '--backbone', 'random', '--data-root', str(tmp_path / 'data'),
               '--work-dir', str(tmp_path / 'run'), '--cfg-options',
               *(f'{key}={value}' for key, value in tiny.items())]
    assert main(command) == 2
    first, *lines = capsys.readouterr().err.strip().splitlines()
    assert 'of the' in first and 'labelled files cannot be used' in first
    assert len(lines) == 6 and lines[-1].strip() == f'and {len(planted) - 2 - 5} more'
    assert not (tmp_path / 'run').exists()


def test_only_what_is_drawn_is_opened(tiny, tmp_path, capsys):
    pairs = draw(tmp_path / 'data', 'folder', 6)
    cfg, target = read_downstream_config(TWIN)
    target.set_data(cfg, str(tmp_path / 'data'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        drawn = take_fraction(cfg, 0.5, 0).images
    other = next(image for image, _ in pairs if str(image) not in drawn)
    cut(other)
    finetune(FinetuneRun(TWIN, None, tmp_path / 'data', fraction=0.5, options=tiny,
                         work_dir=tmp_path / 'run'))
    assert json.loads((tmp_path / 'run/subset.json').read_text())['images'] == drawn
    with pytest.raises(UsageError, match=f'1 of the 16 labelled files .*\n.*{other.name}'):
        finetune(FinetuneRun(TWIN, None, tmp_path / 'data', options=tiny,
                             work_dir=tmp_path / 'all'))
    assert not (tmp_path / 'all').exists()
    code, said, _ = run_check(TWIN, tmp_path / 'data', capsys, '--fraction', '0.5')
    assert code == 0 and said[-1].startswith('10 files were opened')


@pytest.mark.slow
def test_a_run_may_go_without_the_pass(tiny, tmp_path):
    """The damaged file then ends it when its turn comes."""
    pairs = draw(tmp_path / 'data', 'folder', 2)
    for image, _ in pairs:
        cut(image)
    command = ['finetune', TWIN, '--backbone', 'random', '--data-root', str(tmp_path / 'data'),
               '--work-dir', str(tmp_path / 'run'), '--cfg-options',
               *(f'{key}={value}' for key, value in tiny.items())]
    assert main(command) == 2 and not (tmp_path / 'run').exists()
    assert main([*command, '--no-check']) == 1 and (tmp_path / 'run').exists()


def test_a_benchmark_opens_the_files_once_and_its_runs_do_not(tiny, tmp_path, monkeypatch):
    pairs = draw(tmp_path / 'data', 'folder', 4)
    plan = Benchmark(TWIN, {}, [0.5, 1.0], tmp_path / 'benchmark', 2, options=tiny,
                     data_root=str(tmp_path / 'data'))
    looks, jobs = [], []
    monkeypatch.setattr(labelled_data, 'check_data', lambda *given, **named: (
        looks.append(given), check_data(*given, **named))[1])
    monkeypatch.setattr(benchmark, 'run_jobs', lambda given, *rest: jobs.extend(given))
    run_benchmark(plan)
    assert len(looks) == 1 and len(jobs) == 4
    assert all('--no-check' in job.arguments for job in jobs)
    run_benchmark(plan, check=False)
    assert len(looks) == 1
    cut(pairs[0][1])
    with pytest.raises(UsageError, match='1 of the 12 labelled files cannot be used'):
        run_benchmark(plan)
    assert len(jobs) == 8


# -- files whose end is missing -------------------------------------------------------------------

def lose_the_end(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_a_set_with_cut_photos_is_trained_and_scored_whole_with_a_warning(tiny, tmp_path, capsys):
    """A perfect model has an mIoU of 100 % on it, by the data set and the metric of the run."""
    from mmengine import Config
    from mmengine.registry import METRICS
    draw(tmp_path / 'data', 'folder', 3, val=3)
    spoilt = [tmp_path / 'data/images' / name for name in ('train/train_01.jpg', 'val/val_01.jpg')]
    for path in spoilt:
        lose_the_end(path)
    code, said, _ = run_check(TWIN, tmp_path / 'data', capsys)
    assert code == 0
    assert all(any(line.startswith(f'{path} is used as it is: ') for line in said)
               for path in spoilt)
    scores = finetune(FinetuneRun(TWIN, None, tmp_path / 'data', options=tiny,
                                  work_dir=tmp_path / 'run'))
    assert set(scores) == {'mIoU', 'mAcc', 'aAcc'}
    said = capsys.readouterr().out
    assert all(f'data: {path} is used as it is' in said for path in spoilt)
    cfg = Config.fromfile(tmp_path / 'run/fcn_r18_folder.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = DATASETS.build(cfg.val_dataloader.dataset)
        metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        truth = data[i]['data_samples'].gt_sem_seg.data
        metric.process({}, [{'pred_sem_seg': {'data': truth % 255},
                             'gt_sem_seg': {'data': truth}, 'img_path': ''}])
    assert len(metric.results) == 3
    assert metric.compute_metrics(metric.results)['mIoU'] == 100.0
    probed = PixelData(find_pixel_labels(tmp_path / 'data'), 'val', 32, 32, False)
    assert [probed[i][1].shape for i in range(3)] == [(40, 56)] * 3
