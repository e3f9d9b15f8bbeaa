"""Fractions of the labels: nested, reproducible, the same for every initialization."""
import json
from importlib import import_module
from pathlib import Path

import pytest
from disk_layouts import as_vocdevkit
from mmengine import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope

from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.labelled_subset import choose, leaf_datasets, repeat, take_fraction


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
    subset = take_fraction(cfg, 0.25, 0)
    subset.write(tmp_path)
    assert str(subset) == '5 of 20 training images (fraction 0.25, seed 0)'
    written = json.loads((tmp_path / 'subset.json').read_text())
    assert written['images'] == [str(i) for i in choose(20, 0.25, 0)] and written['of'] == 20
    built = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(built) == 2 * 5
    assert {built[i]['img_path'] for i in range(5)} == set(written['images'])


def test_parts_without_an_image_are_left_out_of_nested_wrappers():
    def repeated(start):
        return dict(type='RepeatDataset', times=3, dataset=dict(type='TenImages', start=start))
    inner = dict(type='ConcatDataset', datasets=[repeated(10), dict(type='TenImages', start=20)])
    seen = set()
    for seed in range(3):
        cfg = ConfigDict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[
            dict(type='TenImages', metainfo={'classes': ('a', 'b')}), inner])))
        for leaf in leaf_datasets(cfg.train_dataloader.dataset):
            leaf.metainfo = {'classes': ('a', 'b')}
        image, = take_fraction(cfg, 0.01, seed).images
        built = DATASETS.build(cfg.train_dataloader.dataset)
        assert {built[i]['img_path'] for i in range(len(built))} == {image}
        assert len(built) == (3 if 10 <= int(image) < 20 else 1), 'the wrapper is still around it'
        assert built.metainfo['classes'] == ('a', 'b')
        seen.add(int(image) // 10)
    assert seen == {0, 1, 2}, 'each part was the only one at some time'


@pytest.mark.parametrize('config', [
    'faster_rcnn_c4_r18_voc', 'fcn_r18_voc12aug'])
def test_one_image_of_two_lists_makes_a_training_set(config, tmp_path):
    root = as_vocdevkit(write_scenes(tmp_path / 'scenes', unlabelled=0, train=4, val=1,
                                     size=(64, 64)), tmp_path / 'voc')
    lists = root / 'VOC2012/ImageSets/Segmentation'
    names = (lists / 'train_aug.txt').read_text().split()
    (lists / 'train_aug.txt').unlink()
    (lists / 'train.txt').write_text(names[0])
    (lists / 'aug.txt').write_text(names[1])
    drawn = set()
    for seed in (0, 3):
        cfg, target = read_downstream_config(f'downstream/{config}')
        target.set_data(cfg, str(root))
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            take_fraction(cfg, 0.01, seed)
            data = target_datasets(target.name).build(cfg.train_dataloader.dataset)
            whole = target_datasets(target.name).build(cfg.val_dataloader.dataset)
        assert len(data) == 1 and data[0]['inputs'].shape[0] == 3
        assert data.metainfo['classes'] == whole.metainfo['classes']
        drawn.add(Path(data.get_data_info(0)['img_path']).name)
    assert len(drawn) > 1


def target_datasets(name):
    return import_module(f'{name}.registry').DATASETS


def test_a_run_of_epochs_keeps_its_length():
    """Every image of the part as often as any other, but for one; as many as there are in all."""
    cfg = ConfigDict(train_cfg=dict(max_epochs=6), train_dataloader=dict(dataset=dict(
        type='ConcatDataset', datasets=[dict(type='TenImages'), dict(type='TenImages')])))
    subset = take_fraction(cfg, 0.3, 0)
    assert str(subset).startswith(
        '6 of 20 training images (fraction 0.3, seed 0), each 3.33 times an ')
    drawn = [(part, index) for part, one in enumerate(cfg.train_dataloader.dataset.datasets)
             for index in one.indices]
    assert len(drawn) == 20 and len(set(drawn)) == 6
    assert {drawn.count(one) for one in set(drawn)} == {3, 4}
    assert len(subset.images) == 6
    assert repeat([4, 7], 5) == [4, 4, 4, 7, 7] and repeat([1, 2], 2) == [1, 2]


@DATASETS.register_module(name='FewObjects', force=True)
class FewObjects(BaseDataset):
    """Ten images, of which the first alone has an object that is not to be ignored."""

    def load_data_list(self):
        return [{'img_path': str(i), 'instances': [{'ignore_flag': int(i > 0)}]}
                for i in range(10)]


@pytest.mark.slow
def test_a_draw_without_objects_is_refused():
    for seed in range(20):
        cfg = ConfigDict(train_dataloader=dict(dataset=dict(type='FewObjects')))
        if 0 in choose(10, 0.3, seed):
            take_fraction(cfg, 0.3, seed)
        else:
            with pytest.raises(UsageError, match=r'3 training images of fraction 0\.3.*no object'):
                take_fraction(cfg, 0.3, seed)
