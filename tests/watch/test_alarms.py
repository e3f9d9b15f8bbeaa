"""Which figures raise which alarm, when, and how often."""
import math
from dataclasses import asdict

import pytest

from densessl.watch.alarms import RULES, Alarms, queue_alarms

HEALTHY = {'spread': 0.2, 'rank_backbone': 40.0, 'rank_projections': 30.0, 'loss_of_trivial': 0.6,
           'loss_trivial': math.log(4095), 'negative_similarity': 0.1, 'regions_a_view': 5.0,
           'anchors_with_positive': 0.8, 'update': 0.002, 'gradient': 1.0, 'waiting': 0.01}
BROKEN = {'collapse': {'spread': 0.01}, 'rank': {'rank_backbone': 5.0},
          'projections': {'negative_similarity': 0.99}, 'trivial': {'loss_of_trivial': 1.01},
          'far_above': {'loss_of_trivial': 90.0}, 'regions': {'regions_a_view': 1.0},
          'positives': {'anchors_with_positive': 0.02}, 'update': {'update': 0.5},
          'gradient': {'gradient': 0.0}, 'waiting': {'waiting': 0.4}}


def names(alarms):
    return [alarm.name for alarm in alarms]


def test_a_healthy_run_raises_none():
    alarms = Alarms(1000)
    assert [names(alarms.judge(step, HEALTHY)) for step in range(50, 1001, 50)] == [[]] * 20


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.name)
def test_each_failure_raises_its_alarm_alone_and_once_until_it_has_ceased(rule):
    alarms, broken = Alarms(1000), {**HEALTHY, **BROKEN[rule.name]}
    assert alarms.judge(50, HEALTHY) == []
    found = [names(alarms.judge(50 * i, broken)) for i in range(2, 8)]
    assert found == [[rule.name] if i == rule.lines - 1 else [] for i in range(6)]
    assert alarms.judge(400, HEALTHY) == []
    again = [alarms.judge(400 + 50 * i, broken) for i in range(1, 4)]
    assert sum(map(len, again)) == 1, 'it had ceased, so it is said again'
    alarm = next(one[0] for one in again if one)
    assert alarm.text and alarm.mend and set(asdict(alarm)) == {'step', 'name', 'text', 'mend'}
    assert alarm.text in str(alarm) and alarm.mend in str(alarm)


def test_a_loss_may_begin_at_its_trivial_value():
    alarms = Alarms(1000)
    figures = {**HEALTHY, **BROKEN['trivial']}
    assert [names(alarms.judge(step, figures)) for step in (10, 20, 30, 40)] == [[]] * 4
    assert [names(alarms.judge(step, figures)) for step in (50, 60, 70)] == [[], [], ['trivial']]


def test_figures_that_are_not_there_raise_nothing():
    assert Alarms(10).judge(5, {}) == []


def test_queues():
    assert queue_alarms(queue=None, global_batch=64, images=10) == []
    assert queue_alarms(queue=0, global_batch=64, images=10) == []
    assert queue_alarms(queue=640, global_batch=64, images=1000) == []
    small, = queue_alarms(queue=32, global_batch=64, images=1000)
    long, = queue_alarms(queue=65536, global_batch=64, images=1000)
    assert 'smaller than the batch of 64' in small.text and small.step == 0
    assert '65536' in long.text and '1000 images' in long.text
