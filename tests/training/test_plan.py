"""From recipe to numbers: rows, batches, rates, schedules."""
from __future__ import annotations

import math

import pytest
from mmengine import Config

from densessl.errors import UsageError
from densessl.planning.learning_rate import by_epoch, constant, cosine, step
from densessl.planning.plan import choose_row, make_plan


def config(**changes):
    return Config(dict(
        optim_wrapper=dict(), epochs=1000, global_batch=4096,
        train_dataloader=dict(batch_size=None, num_workers=0),
        schedule=dict(type='cosine', base_lr=0.2, reference_batch=256, warmup_epochs=10),
        recipe={300: {'schedule.base_lr': 0.3}, 1000: {'schedule.base_lr': 0.2}}, **changes))


@pytest.mark.parametrize('epochs, rate', [(1, 0.3), (300, 0.3), (999, 0.3), (1000, 0.2),
                                          (2000, 0.2), (None, 0.2)])
def test_row_with_the_most_epochs_not_above(epochs, rate):
    cfg = config()
    assert choose_row(cfg, epochs) == (epochs or 1000)
    assert cfg.schedule.base_lr == rate


def test_epochs_may_be_a_part_of_one():
    plan = make_plan(config(), epochs=2.5, images=100_000, processes=1)
    assert plan.steps == 250_000 // 4096 and plan.warmup_steps == 25_000 // 4096
    assert make_plan(config(), epochs=0.001, images=100_000, processes=1).steps == 1
    for epochs in (0, -1, float('nan'), 1e7):
        with pytest.raises(UsageError, match='above 0 and at most 1000000'):
            choose_row(config(), epochs)


def test_published_recipe():
    plan = make_plan(config(), epochs=1000, images=1_281_167, processes=32)
    assert (plan.batch_size, plan.global_batch) == (128, 4096)
    assert plan.lr == pytest.approx(3.2)
    assert plan.steps == 1000 * 1_281_167 // 4096
    assert plan.warmup_steps == 10 * 1_281_167 // 4096
    assert plan.notes == ()


def test_rate_follows_the_batch_that_is_used():
    cfg = config()
    cfg.train_dataloader.batch_size = 8
    plan = make_plan(cfg, epochs=1, images=1000, processes=2)
    assert plan.global_batch == 16 and plan.lr == pytest.approx(0.2 / 16)
    assert plan.steps == 62
    assert [note.split()[0] for note in plan.notes] == ['batch', '1', '0.1']


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(UsageError, match=r'4096 cannot be shared by 3'):
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


def test_step_drops_at_its_milestones():
    factors = [step(k, steps=200, warmup=0, milestones=(0.6, 0.8)) for k in (0, 119, 120, 159, 160)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_by_epoch_holds_the_rate_through_an_epoch():
    """facebookresearch/moco: lr · (1 + cos(π · epoch / epochs)) / 2 with an integer epoch."""
    held = by_epoch(lambda k: cosine(k, steps=1000, warmup=0), steps_per_epoch=5.0)
    for k in (0, 1, 4, 5, 499, 500, 999):
        assert held(k) == pytest.approx(0.5 * (1 + math.cos(math.pi * (k // 5) / 200)))


def test_accumulation_makes_the_update_not_the_iteration():
    cfg = config()
    cfg.optim_wrapper.accumulative_counts = 4
    plan = make_plan(cfg, epochs=2, images=8192, processes=32)
    assert (plan.batch_size, plan.global_batch, plan.steps) == (32, 4096, 4)


def test_schedule_arguments_are_checked():
    cfg = config()
    cfg.schedule.milestones = [0.5]
    with pytest.raises(UsageError, match="unknown parameter 'milestones' of schedule 'cosine'"):
        make_plan(cfg, epochs=1, images=8192, processes=1)


def test_a_published_length_keeps_its_warm_up_and_a_shorter_one_shortens_it():
    """BYOL's preset of 40 epochs warms up for 10 of them."""
    cfg = config()
    cfg.recipe = {40: {}, 1000: {}}
    steps = {epochs: make_plan(cfg, epochs=epochs, images=4096, processes=1).warmup_steps
             for epochs in (20, 40, 60, 1000)}
    assert steps == {20: 2, 40: 10, 60: 6, 1000: 10}
