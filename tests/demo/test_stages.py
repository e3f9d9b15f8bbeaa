"""Stages: done once, resumed, redone with other settings, named when they fail."""
from __future__ import annotations

import json
import pickle

import pytest

from densessl.demo.stages import LEDGER, StageFailed, Stages
from densessl.errors import RunFailed, UsageError
from densessl.progress import duration
from densessl.weights.stated_backbone import RefusedFact


def run(folder, calls, *, settings=1, fail=None, fresh=False):
    """Two stages; the second builds on the first. ``calls`` notes what was really done."""
    def work(name):
        def do(begun):
            calls.append((name, begun))
            (folder / name).mkdir(exist_ok=True)
            (folder / name / 'out').write_text(str(settings))
            if fail and name == 'second':
                raise fail
            return {'value': settings}
        return do
    stages = Stages(folder, total=2, fresh=fresh)
    for name, after in (('first', []), ('second', ['first'])):
        found = stages.run(name, name, work(name), settings=settings if name == 'first' else None,
                           after=after, owns=[name], needs=[f'{name}/out'])
    return found


def test_what_is_done_is_not_done_again(tmp_path, capsys):
    calls = []
    assert run(tmp_path, calls) == run(tmp_path, calls) == {'value': 1}
    assert calls == [('first', False), ('second', False)]
    assert '[2/2] second' in capsys.readouterr().out


def test_other_settings_redo_a_stage_and_all_that_build_on_it(tmp_path):
    calls = []
    run(tmp_path, calls)
    (tmp_path / 'first' / 'leftover').touch()
    assert run(tmp_path, calls, settings=2) == {'value': 2}
    assert calls[2:] == [('first', False), ('second', False)]
    assert not (tmp_path / 'first' / 'leftover').exists()


def test_a_missing_or_empty_output_is_made_again(tmp_path):
    calls = []
    run(tmp_path, calls)
    (tmp_path / 'second' / 'out').write_text('')
    run(tmp_path, calls)
    assert calls[2:] == [('second', True)]


def test_an_unfinished_stage_is_told_that_it_was_begun(tmp_path):
    calls = []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, calls, fail=KeyboardInterrupt())
    run(tmp_path, calls)
    assert calls == [('first', False), ('second', False), ('second', True)]


def test_a_failure_names_its_stage(tmp_path):
    with pytest.raises(UsageError, match='stage 2/2, second: no such'):
        run(tmp_path, [], fail=UsageError('no such'))
    with pytest.raises(StageFailed, match='stage 2/2, second, failed: ZeroDivisionError') as caught:
        run(tmp_path, [], fail=ZeroDivisionError('x'))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_refused_file_is_one_line_that_names_the_stage(tmp_path):
    refused = RefusedFact('b.pth', 'mean', [1, 2], 'three numbers')
    with pytest.raises(UsageError, match=r'^stage 2/2, second: b.pth is refused: .* mean = '
                                         r'\[1, 2\]; it must be three numbers. Get the file as'):
        run(tmp_path, [], fail=refused)
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused)


def test_fresh_deletes_what_the_stages_own_and_nothing_else(tmp_path):
    calls = []
    run(tmp_path, calls)
    (tmp_path / 'notes.txt').write_text('mine')
    run(tmp_path, calls, fresh=True)
    assert len(calls) == 4 and (tmp_path / 'notes.txt').read_text() == 'mine'


@pytest.mark.parametrize('fresh', [False, True])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, fresh):
    (tmp_path / 'photo.jpg').write_text('mine')
    with pytest.raises(UsageError, match='holds other files'):
        Stages(tmp_path, total=1, fresh=fresh)
    assert [path.name for path in tmp_path.iterdir()] == ['photo.jpg']
    with pytest.raises(UsageError, match='is a file'):
        Stages(tmp_path / 'photo.jpg', total=1)


@pytest.mark.parametrize('text', ['', 'no json', '{}', '{"format": 99, "stages": {}}'])
def test_a_ledger_that_cannot_be_read_is_an_error(tmp_path, text):
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(UsageError, match='cannot be used'):
        Stages(tmp_path, total=1, fresh=True)


def test_nothing_outside_the_folder_is_deleted(tmp_path):
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / LEDGER).write_text(json.dumps(
        {'format': 1, 'stages': {'x': {'owns': ['../precious'], 'seconds': 1}}}))
    with pytest.raises(UsageError, match='outside'):
        Stages(tmp_path / 'demo', total=1, fresh=True)
    assert (tmp_path / 'precious').is_dir()


def test_durations_read_well():
    assert [duration(s) for s in (0.44, 38.2, 221, 3700)] == ['0.4 s', '38 s', '3:41 min',
                                                              '1:01:40 min']


def test_a_run_that_failed_is_one_line(tmp_path):
    def fail(_):
        raise RunFailed('no room')
    with pytest.raises(RunFailed, match='stage 1/1, model: no room'):
        Stages(tmp_path / 'out', 1).run('model', 'fine-tune', fail)


def test_the_times_are_those_of_the_stages_that_there_are(tmp_path):
    Stages(tmp_path / 'out', 1).run('old', 'as it was once', lambda _: {})
    stages = Stages(tmp_path / 'out', 1)
    stages.run('new', 'as it is now', lambda _: {})
    assert set(stages.seconds()) == {'new'}
