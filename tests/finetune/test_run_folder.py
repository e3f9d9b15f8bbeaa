"""The folder of a run, and the schedule of a shorter one."""
import json

import pytest
import torch
from mmengine import Config
from mmengine.registry import PARAM_SCHEDULERS

from densessl.errors import UsageError
from densessl.finetune.run_folder import (
    DATA,
    decisive_values,
    finished_run,
    read_scores,
    run_to_resume,
    start_run,
)
from densessl.finetune.schedule import scale_schedule, shorten_warmups

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


def test_a_run_made_again_cannot_be_taken_for_the_first(tmp_path):
    start_run(tmp_path, SETTINGS, False)
    for name in ('iter_9.pth', 'epoch_2.pth', 'last_checkpoint', 'scores.json', 'mine.pth'):
        (tmp_path / name).touch()
    start_run(tmp_path, SETTINGS, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mine.pth', 'run.json']


def test_what_may_change_when_a_run_is_resumed(tmp_path):
    def values(**loader):
        return decisive_values(Config(dict(
            train_dataloader=dict(batch_size=2, **loader), default_hooks=dict(logger=None),
            train_cfg=dict(max_iters=6, val_interval=3))))
    assert values(num_workers=2) == {'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 6}
    start_run(tmp_path, SETTINGS, False, values(num_workers=2))
    assert run_to_resume(tmp_path, SETTINGS, values()) is None    # nothing is saved yet
    (tmp_path / 'iter_3.pth').touch()
    other = {**SETTINGS, 'config_hash': '2'}      # such as other workers
    assert run_to_resume(tmp_path, other, values(num_workers=8)) == tmp_path / 'iter_3.pth'
    with pytest.raises(UsageError, match='shuffle None, this run has 1'):
        run_to_resume(tmp_path, other, values(shuffle=1))
    (tmp_path / 'run.json').write_text(json.dumps(SETTINGS))      # of densessl 0.1.0
    assert run_to_resume(tmp_path, SETTINGS, values()) == tmp_path / 'iter_3.pth'
    with pytest.raises(UsageError, match='made with config_hash 1, this run has 2'):
        run_to_resume(tmp_path, other, values())


def test_a_run_on_other_data_or_input_is_another_one(tmp_path):
    start_run(tmp_path, {**SETTINGS, DATA: 'a', 'input': 'b'}, False)
    (tmp_path / 'iter_3.pth').touch()
    (tmp_path / 'last_checkpoint').touch()
    for other, words in (({DATA: 'c'}, 'images or labels of the data set have changed since'),
                         ({'input': 'c'}, 'input b, not c')):
        with pytest.raises(UsageError, match=words):
            finished_run(tmp_path, other, False)
    with pytest.raises(UsageError, match='made with input b, this run has c'):
        run_to_resume(tmp_path, {**SETTINGS, 'input': 'c'}, {})
    assert run_to_resume(tmp_path, {**SETTINGS, 'input': 'b'}, {})
    start_run(tmp_path, SETTINGS, True)       # as it was recorded before these were
    (tmp_path / 'iter_3.pth').touch()
    (tmp_path / 'last_checkpoint').touch()
    assert run_to_resume(tmp_path, {**SETTINGS, 'input': 'c'}, {})
    assert finished_run(tmp_path, {**SETTINGS, DATA: 'c', 'input': 'c'}, False) is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match=r"file.run' cannot be made: .*file is a file"):
        start_run(tmp_path / 'file' / 'run', SETTINGS, False)


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
    assert cfg.param_scheduler[0].end == 2 and cfg.param_scheduler[0].begin == 0
    assert cfg.param_scheduler[1].milestones == [63, 81]   # 70 % and 90 %


def test_a_warm_up_ends_however_short_it_becomes():
    """mmengine leaves the rate of a warm-up of one step where it starts, for the whole run."""
    cfg = config(90)
    scale_schedule(cfg, config(90000), {'train_cfg.max_iters': 90})
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    warmup = PARAM_SCHEDULERS.build(dict(cfg.param_scheduler[0], optimizer=optimizer))
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        warmup.step()
    assert rates[0] < 0.5 and rates[1:] == [1.0, 1.0]


def test_a_schedule_that_was_given_is_left_alone():
    cfg = config(90)
    scale_schedule(cfg, config(90000), {'param_scheduler.1.milestones': [63000, 81000]})
    assert cfg.param_scheduler[1].milestones == [63000, 81000]


def epochs(number, warmup=500):
    return Config(dict(train_cfg=dict(max_epochs=number), param_scheduler=[
        dict(type='LinearLR', by_epoch=False, begin=0, end=warmup),
        dict(type='MultiStepLR', by_epoch=True, milestones=[8, 11], end=12)]))


def test_a_warm_up_of_iterations_is_scaled_with_epochs():
    cfg = epochs(6)
    scale_schedule(cfg, epochs(12), {'train_cfg.max_epochs': 6})
    assert cfg.param_scheduler[0].end == 250
    assert cfg.param_scheduler[1].milestones == [4, 6] and cfg.param_scheduler[1].end == 6


def test_a_warm_up_leaves_most_of_a_run_that_counts_epochs():
    cfg = epochs(12)
    assert shorten_warmups(cfg.param_scheduler, 90000) == []
    assert cfg.to_dict() == epochs(12).to_dict()
    cfg.param_scheduler.append(dict(type='CosineAnnealingLR', by_epoch=False, begin=500, end=2400))
    line, = shorten_warmups(cfg.param_scheduler, 2400)
    assert '500 → 240 iterations' in line
    assert [one.get('begin') for one in cfg.param_scheduler] == [0, None, 240]
    assert cfg.param_scheduler[0].end == 240 and cfg.param_scheduler[1].milestones == [8, 11]


@pytest.mark.parametrize('scores', [5, [], 'x', {'mIoU': {}}, {'mIoU': 'high'}, {'mIoU': True}])
def test_scores_that_are_none_are_a_damaged_record(scores, tmp_path):
    (tmp_path / 'scores.json').write_text(json.dumps({'scores': scores, 'seconds': 1}))
    with pytest.raises(UsageError, match=r'scores\.json is damaged: it says .*, not figures'):
        read_scores(tmp_path, ['seconds'])
