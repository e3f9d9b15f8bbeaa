"""What the report says of a run, in words."""
from __future__ import annotations

import pytest
from made_runs import COLLAPSE, make_run, write_lines

from densessl.report.recorded_run import read_run
from densessl.report.verdict import (
    HEALTHY,
    LEARNING,
    UNHEALTHY,
    UNKNOWN,
    judge,
    said,
    together,
)


@pytest.fixture
def run_of(tmp_path):
    """(probes or None, alarms, **how) → the run that left them."""
    def make(probes=None, alarms=(), start=20.0, **how):
        folder = make_run(tmp_path / 'run', probed=False, pictures=False, **how)
        write_lines(folder / 'alarms.jsonl', alarms)
        if probes is not None:
            write_lines(folder / 'probes.jsonl', [
                {'step': 100 * i, 'mIoU': value, 'propagation': value, 'start': start}
                for i, value in enumerate(probes)])
        return read_run(folder)
    return make


def alarm(step, name='rank', text='the rank fell', mend='lower the rate'):
    return {'step': step, 'name': name, 'text': text, 'mend': mend}


@pytest.mark.parametrize('probes, state, since, words', [
    ([20, 22, 25], HEALTHY, 100, 'from 20.0 to 25.0 mIoU by step 200'),
    ([20, 19, 25], HEALTHY, 200, 'from 20.0 to 25.0'),
    ([20, 20.2, 20.5], LEARNING, None, 'hardly a difference'),
    ([20, 22, 12], UNHEALTHY, 200, 'below what it started from'),
    ([20, 18, 12], UNHEALTHY, 100, 'below what it started from'),
    ([20, 19.6], LEARNING, None, 'hardly a difference')])
def test_the_probe_decides_where_no_alarm_was_raised(run_of, probes, state, since, words):
    verdict = judge(run_of(probes))
    assert (verdict.state, verdict.since) == (state, since)
    assert words in verdict.why and verdict.to_do


def test_an_alarm_says_since_when_and_what_to_do(run_of):
    verdict = judge(run_of([20, 10, 3], [alarm(150, text='later'), COLLAPSE]))
    assert verdict.sentence == 'Not healthy since step 90'
    assert verdict.why.startswith('The features of a batch are nearly the same')
    assert 'from 20.0 to 3.0' in verdict.why
    assert verdict.to_do == 'Lower the learning rate.'


def test_a_run_that_learns_in_spite_of_an_alarm_is_to_be_looked_at(run_of):
    verdict = judge(run_of([20, 25, 30], [alarm(10)]))
    assert verdict.state == LEARNING and 'But at step 10: The rank fell.' in verdict.why


def test_waiting_for_data_makes_no_run_unhealthy(run_of):
    slow = alarm(30, 'waiting', '12% of the time is spent waiting', 'more workers')
    verdict = judge(run_of([20, 25], [slow]))
    assert verdict.state == HEALTHY
    assert 'spent waiting' in verdict.why and verdict.to_do.endswith('More workers.')


def test_a_collapse_is_seen_without_alarms_and_probes(run_of):
    verdict = judge(run_of(collapses=True))
    assert (verdict.state, verdict.since) == (UNHEALTHY, 80)


def test_nothing_is_claimed_without_a_measurement(run_of):
    verdict = judge(run_of())
    assert verdict.state == UNKNOWN and '--probe' in verdict.to_do


def test_nothing_is_claimed_of_two_lines(run_of):
    verdict = judge(run_of(steps=20))
    assert verdict.state == UNKNOWN and 'Only 2 lines' in verdict.why


def test_several_runs_in_a_sentence(tmp_path):
    runs = [read_run(make_run(tmp_path / name, pictures=False, **how)) for name, how in (
        ('a', {}), ('b', {'start': 24.0}), ('c', {'collapses': True}))]
    assert together(runs, [judge(run) for run in runs]) == (
        'c is not healthy. a and b are healthy. The highest probe at the end is that of b: '
        '32.7 mIoU.')


def test_sentences():
    texts = ('', 'ab c', 'Done!')
    assert [said({'text': text}, 'text') for text in texts] == ['', 'Ab c.', 'Done!']
