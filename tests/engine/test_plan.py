"""From recipe to numbers: rows, batches, rates, schedules."""
from __future__ import annotations

import math

import pytest
from mmengine import Config

from densessl.engine.plan import choose_row, make_plan
from densessl.engine.schedules import constant, cosine
from densessl.errors import UsageError


def config(**changes):
    return Config(dict(
        epochs=1000, global_batch=4096, train_dataloader=dict(batch_size=None, num_workers=0),
        schedule=dict(type='cosine', base_lr=0.2, reference_batch=256, warmup_epochs=10),
        recipe={300: {'schedule.base_lr': 0.3}, 1000: {'schedule.base_lr': 0.2}}, **changes))


@pytest.mark.parametrize('epochs, rate', [(1, 0.3), (300, 0.3), (999, 0.3), (1000, 0.2),
                                          (2000, 0.2), (None, 0.2)])
def test_row_with_the_most_epochs_not_above(epochs, rate):
    cfg = config()
    assert choose_row(cfg, epochs) == (epochs or 1000)
    assert cfg.schedule.base_lr == rate


def test_published_recipe():
    plan = make_plan(config(), epochs=1000, images=1_281_167, processes=32)
    assert (plan.batch_size, plan.global_batch) == (128, 4096)
    assert plan.lr == pytest.approx(3.2)
    assert plan.steps == 1000 * 1_281_167 // 4096
    assert plan.warmup_steps == round(10 * 1_281_167 / 4096)
    assert plan.notes == ()


def test_rate_follows_the_batch_that_is_used():
    cfg = config()
    cfg.train_dataloader.batch_size = 8
    plan = make_plan(cfg, epochs=1, images=1000, processes=2)
    assert plan.global_batch == 16 and plan.lr == pytest.approx(0.2 / 16)
    assert plan.steps == 62
    assert [note.split()[0] for note in plan.notes] == ['batch', '1', '0.1']


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(UsageError, match=r'4096 is not a multiple of 3'):
        make_plan(config(), epochs=1, images=10, processes=3)
    with pytest.raises(UsageError, match='epochs 0'):
        choose_row(config(), 0)


def test_cosine_at_its_corners():
    kwargs = dict(steps=110, warmup=10)
    assert [cosine(k, **kwargs) for k in (0, 1, 10)] == [0, 0.1, 1]
    assert cosine(60, **kwargs) == pytest.approx(0.5)
    assert cosine(109, **kwargs) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert cosine(0, steps=5, warmup=0) == 1
    assert [constant(k, steps=9, warmup=2) for k in (0, 1, 2, 8)] == [0, 0.5, 1, 1]
    assert constant(0, steps=9, warmup=0) == 1
