"""Means, the paired test and Holm's adjustment, against closed forms and published figures."""
import math

import numpy as np
import pytest
from scipy import stats

from densessl.benchmark.statistics import holm, paired_test, spread

# Student 1908, table 1: additional hours of sleep of ten patients by two drugs
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_spread_divides_by_n_minus_1():
    found = spread([1.0, 2.0, 6.0])
    assert (found.n, found.mean) == (3, 3.0)
    assert found.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert spread([2.5]).std is None


def test_the_sleep_data_give_the_known_p():
    test = paired_test(SECOND, FIRST)
    assert test.difference == pytest.approx(1.58)
    assert test.p == pytest.approx(0.00283289, abs=1e-7)       # as R's t.test(paired = TRUE)
    assert test.difference - test.half_width == pytest.approx(0.7001142, abs=1e-6)
    assert paired_test(FIRST, SECOND).p == pytest.approx(test.p)


def test_two_seeds_have_the_closed_form_of_one_degree_of_freedom():
    ours, theirs = [31.0, 30.0], [28.5, 29.2]        # differences 2.5 and 0.8
    t = 1.65 / (abs(2.5 - 0.8) / math.sqrt(2) / math.sqrt(2))
    assert paired_test(ours, theirs).p == pytest.approx(1 - 2 / math.pi * math.atan(t))


def test_pairs_matter():
    """A difference that is small beside the spread of seeds shows because seeds are paired."""
    theirs = np.array([10.0, 30.0, 50.0])
    ours = theirs + np.array([1.0, 1.1, 0.9])
    assert paired_test(ours, theirs).p < 0.01 < stats.ttest_ind(ours, theirs).pvalue


@pytest.mark.parametrize(('ours', 'theirs', 'reason'), [
    ([5.0], [1.0], 'one seed'),
    ([5.0, 7.0], [4.0, 6.0], 'the same at every seed'),     # would be p = 0
    ([5.1, 7.3, 9.7], [4.0, 6.2, 8.6], 'the same at every seed'),   # but for rounding
    ([5.0, 7.0], [5.0, 7.0], 'the same at every seed'),
    ([5.0, math.nan], [5.0, 7.0], 'a score is not a number'),
])
def test_where_nothing_can_be_said_there_is_no_p(ours, theirs, reason):
    test = paired_test(ours, theirs)
    assert test.p is None and test.half_width is None and reason in test.reason


def test_holm_against_its_definition():
    values = [0.03, 0.001, 0.04, 0.012]
    # sorted: .001·4, .012·3, .03·2, .04·1, each at least the one before
    assert holm(values) == pytest.approx([0.06, 0.004, 0.06, 0.036])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_holm_keeps_the_chance_of_any_false_alarm_below_the_level():
    rng = np.random.default_rng(0)
    trials = rng.random((4000, 5))          # five true null hypotheses each
    alarms = np.mean([min(holm(trial)) < 0.05 for trial in trials])
    alone = np.mean(trials.min(1) < 0.05)
    assert alarms < 0.06 and alone > 0.2
