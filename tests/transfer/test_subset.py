"""Fractions of the labels: nested, reproducible, the same for every initialization."""
import json

import pytest
from mmengine import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from densessl.errors import UsageError
from densessl.transfer.subset import choose, repeat, take_fraction


@pytest.mark.parametrize('seed', [0, 1])
def test_smaller_fractions_are_subsets(seed):
    chosen = [set(choose(200, fraction, seed)) for fraction in (0.01, 0.1, 0.5, 1.0)]
    assert [len(indices) for indices in chosen] == [2, 20, 100, 200]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]


def test_choice_is_a_function_of_the_seed():
    assert choose(50, 0.3, 7) == choose(50, 0.3, 7) != choose(50, 0.3, 8)
    assert choose(50, 0.3, 7) == sorted(choose(50, 0.3, 7))


def test_at_least_one_image():
    assert len(choose(5, 0.001, 0)) == 1


@pytest.mark.parametrize('fraction', [0, -0.1, 1.5])
def test_a_fraction_is_a_fraction(fraction):
    with pytest.raises(UsageError, match='above 0 and at most 1'):
        choose(10, fraction, 0)


@DATASETS.register_module(name='TenImages', force=True)
class TenImages(BaseDataset):
    def __init__(self, start=0, **kwargs):
        self.start = start
        super().__init__(**kwargs)

    def load_data_list(self):
        return [{'img_path': str(self.start + i)} for i in range(10)]


def test_wrapped_and_concatenated_sets_are_sampled_as_one(tmp_path):
    parts = [dict(type='TenImages'), dict(type='TenImages', start=10)]
    cfg = ConfigDict(train_dataloader=dict(dataset=dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=parts))))
    assert take_fraction(cfg, 0.25, 0, tmp_path) == (
        '5 of 20 training images (fraction 0.25, seed 0)')
    written = json.loads((tmp_path / 'subset.json').read_text())
    assert written['images'] == [str(i) for i in choose(20, 0.25, 0)] and written['of'] == 20
    built = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(built) == 2 * 5
    assert {built[i]['img_path'] for i in range(5)} == set(written['images'])


def test_a_run_of_epochs_keeps_its_length(tmp_path):
    """Every image of the part as often as any other, but for one; as many as there are in all."""
    cfg = ConfigDict(train_cfg=dict(max_epochs=6), train_dataloader=dict(dataset=dict(
        type='ConcatDataset', datasets=[dict(type='TenImages'), dict(type='TenImages')])))
    said = take_fraction(cfg, 0.3, 0, tmp_path)
    assert said.startswith('6 of 20 training images (fraction 0.3, seed 0), each 3.33 times an ')
    drawn = [(part, index) for part, one in enumerate(cfg.train_dataloader.dataset.datasets)
             for index in one.indices]
    assert len(drawn) == 20 and len(set(drawn)) == 6
    assert {drawn.count(one) for one in set(drawn)} == {3, 4}
    assert len(json.loads((tmp_path / 'subset.json').read_text())['images']) == 6
    assert repeat([4, 7], 5) == [4, 4, 4, 7, 7] and repeat([1, 2], 2) == [1, 2]
