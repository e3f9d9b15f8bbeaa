"""Real images through the stock evaluators, where they are; and other people's class names."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from disk_layouts import as_cityscapes, as_vocdevkit
from mmengine.registry import DATASETS, DefaultScope

from densessl.demo.sample import write_scenes
from densessl.finetune.finetune import finetune, read_downstream_config

SHARED = Path(__file__).parents[3] / 'shared' / 'data'
SHORT = {'train_cfg.max_iters': 1, 'train_dataloader.batch_size': 2,
         'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0,
         'val_dataloader.dataset.indices': 4}


@pytest.mark.parametrize(('data', 'config', 'options', 'scores'), [
    ('coco256', 'mask_rcnn_r18_coco', {}, {'box AP', 'mask AP', 'box AP50', 'mask AP50'}),
    ('camvid', 'fcn_r18_folder', {'labels.ignore': 11}, {'mIoU', 'mAcc', 'aAcc'}),
])
def test_real_data_is_scored_by_the_stock_evaluators(data, config, options, scores, backbone18,
                                                     tmp_path):
    if not (SHARED / data).is_dir():
        pytest.skip(f'needs the shared data ({data})')
    found = finetune(f'downstream/{config}', backbone18, SHARED / data, fraction=0.05,
                     work_dir=tmp_path / 'run', cfg_options={**SHORT, **options})
    assert set(found) == scores and all(0 <= value <= 100 for value in found.values())


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=0, train=2, val=1,
                        size=(64, 64))


def built(name, root):
    cfg, target = read_downstream_config(f'downstream/{name}')
    lines = target.set_data(cfg, str(root))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return cfg, lines, [DATASETS.build(cfg[f'{split}_dataloader'].dataset)
                            for split in ('train', 'val')]


def test_train_ids_and_the_delivered_ids_give_the_same_labels(sample, tmp_path):
    maps = []
    for kind in ('labelIds', 'labelTrainIds'):
        root = as_cityscapes(sample, tmp_path / kind, kind)
        _, lines, (train, _) = built('fcn_r18_cityscapes', root)
        assert f'label maps *_gtFine_{kind}.png' in lines[0]
        loader = train.pipeline.transforms[1]
        maps.append([loader(train.get_data_info(i))['gt_seg_map'] for i in range(len(train))])
    for one, two in zip(*maps, strict=True):
        assert (one == two).all() and (one[:2] == 255).all() and (one[2:] < 12).all()


def test_vocs_classes_stay_vocs_and_others_are_counted(sample, tmp_path):
    cfg, lines, (train, val) = built('faster_rcnn_c4_r18_voc', as_vocdevkit(
        sample, tmp_path / 'other'))
    assert cfg.model.roi_head.bbox_head.num_classes == len(val.metainfo['classes']) <= 6
    assert val.metainfo['dataset_type'] is None and len(train) == 2
    voc = dict(zip(('ball', 'box', 'cone', 'ring', 'star', 'tree'),
                   ('cat', 'dog', 'cow', 'bus', 'car', 'boat'), strict=True))
    (tmp_path / 'outer').mkdir()
    as_vocdevkit(sample, tmp_path / 'outer' / 'VOCdevkit', voc)
    cfg, lines, (_, val) = built('faster_rcnn_c4_r18_voc', tmp_path / 'outer')   # the folder above
    assert cfg.model.roi_head.bbox_head.num_classes == 20
    assert val.metainfo['dataset_type'] == 'VOC2007' and '20 classes' in lines[-1]


def test_a_map_of_the_augmented_set_comes_before_vocs_own(sample, tmp_path):
    root = as_vocdevkit(sample, tmp_path / 'VOCdevkit')
    names = (root / 'VOC2012/ImageSets/Segmentation/train_aug.txt').read_text().split()
    augmented = root / 'VOC2012' / 'SegmentationClassAug'
    augmented.mkdir()
    cv2.imwrite(str(augmented / f'{names[0]}.png'), np.zeros((64, 64), np.uint8))
    _, _, (train, val) = built('fcn_r18_voc12aug', root)
    assert [Path(train.get_data_info(i)['seg_map_path']).parent.name for i in range(len(train))] \
        == ['SegmentationClassAug'] + ['SegmentationClass'] * (len(names) - 1)
    assert len(val) == 1
