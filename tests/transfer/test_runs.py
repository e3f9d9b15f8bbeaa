"""The folder of a run, and the schedule of a shorter one."""
import json

import pytest
from mmengine import Config

from densessl.errors import UsageError
from densessl.transfer.runs import finished_run, start_run
from densessl.transfer.schedule import scale_schedule

SETTINGS = {'config': 'c', 'config_hash': '1', 'backbone': 'random', 'seed': 0}


def test_a_finished_run_of_the_same_settings_is_found(tmp_path):
    assert finished_run(tmp_path / 'new', SETTINGS, False) is None
    start_run(tmp_path, SETTINGS, False)
    assert finished_run(tmp_path, SETTINGS, False) is None
    (tmp_path / 'scores.json').write_text(json.dumps({'scores': {'mIoU': 1.0}}))
    assert finished_run(tmp_path, SETTINGS, False) == {'scores': {'mIoU': 1.0}}
    assert finished_run(tmp_path, SETTINGS, True) is None


@pytest.mark.parametrize('result', ['scores.json', 'last_checkpoint'])
def test_results_of_other_settings_are_not_written_over(tmp_path, result):
    start_run(tmp_path, SETTINGS, False)
    other = {**SETTINGS, 'seed': 1, 'backbone': 'abc', 'config_hash': '2'}
    assert finished_run(tmp_path, other, False) is None   # nothing to lose yet
    (tmp_path / result).write_text('{}')
    with pytest.raises(UsageError, match='keys of the config, other weights, seed 0, not 1'):
        finished_run(tmp_path, other, False)
    start_run(tmp_path, other, True)
    assert not (tmp_path / 'scores.json').exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('…')
    with pytest.raises(UsageError, match='holds other files'):
        finished_run(tmp_path, SETTINGS, False)
    with pytest.raises(UsageError, match='is a file'):
        finished_run(tmp_path / 'thesis.tex', SETTINGS, False)
    (tmp_path / 'run.json').write_text('{')
    with pytest.raises(UsageError, match='is damaged'):
        finished_run(tmp_path, SETTINGS, False)


def config(iterations):
    return Config(dict(train_cfg=dict(max_iters=iterations), param_scheduler=[
        dict(type='LinearLR', by_epoch=False, begin=0, end=500),
        dict(type='MultiStepLR', by_epoch=False, milestones=[63000, 81000])]))


def test_the_schedule_keeps_its_shape_when_the_run_is_shortened():
    cfg = config(90)
    scale_schedule(cfg, config(90000), {'train_cfg.max_iters': 90})
    assert cfg.param_scheduler[0].end == 1 and cfg.param_scheduler[0].begin == 0
    assert cfg.param_scheduler[1].milestones == [63, 81]   # 70 % and 90 %


def test_a_schedule_that_was_given_is_left_alone():
    cfg = config(90)
    scale_schedule(cfg, config(90000), {'param_scheduler.1.milestones': [63000, 81000]})
    assert cfg.param_scheduler[1].milestones == [63000, 81000]
