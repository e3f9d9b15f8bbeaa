"""Labelled objects in COCO files of more than the usual layouts."""
from __future__ import annotations

import shutil

import pytest
from labelled_photos import (
    perfect_scores,
    reports,
    set_up,
    write_coco,
)

from densessl.errors import UsageError
from densessl.finetune.downstream_config import read_downstream_config
from densessl_plugins.mmdet.labels.label_layouts import find_layout

BOX = [5, 6, 25, 18]              # the same, as left, top, right, bottom
VOC = 'faster_rcnn_c4_r18_voc'


@pytest.mark.slow
def test_one_json_for_all_and_jsons_beside_images(tmp_path):
    one = write_coco(tmp_path / 'one', [[BOX]] * 8, splits=['default'])
    cfg, lines, target = set_up(one)
    assert 'COCO, the one file annotations/instances_default.json, divided by the hash' in lines[0]
    assert sum(report.used_images for report in target.inspect_data(cfg)) == 8
    beside = tmp_path / 'beside'
    for split, name in (('train', 'train'), ('val', 'valid')):
        root = write_coco(tmp_path / split, [[BOX]] * 2, splits=[split], categories=[
            {'id': 0, 'name': 'cat'}, {'id': 1, 'name': 'cat'}])
        shutil.copytree(root / 'images' / split, beside / name)
        shutil.copy(root / f'annotations/instances_{split}.json',
                    beside / name / '_annotations.coco.json')
    cfg, lines, target = set_up(beside, VOC)
    assert 'of 1 classes (cat)' in lines[0]
    assert [report.used_objects for report in target.inspect_data(cfg)] == [2, 2]
    assert perfect_scores(cfg)['pascal_voc/mAP'] == 1


def test_files_that_the_config_names_come_first(tmp_path):
    root = write_coco(tmp_path, [[BOX]] * 2)
    few = write_coco(tmp_path / 'few', [[BOX]])
    shutil.copy(few / 'annotations/instances_train.json', root / 'annotations/few.json')
    cfg, target = read_downstream_config('downstream/retinanet_r18_coco', {
        'train_dataloader.dataset.ann_file': 'annotations/few.json'})
    target.set_data(cfg, str(root))
    assert [report.images for report in target.inspect_data(cfg)] == [1, 2]


def test_images_of_the_other_part_are_not_taken(tmp_path):
    root = write_coco(tmp_path, [[BOX]])
    shutil.rmtree(root / 'images/val')       # images/train has a 1.jpg, too
    with pytest.raises(UsageError, match=r'no images that annotations/instances_val\.json names'):
        set_up(root)


def test_label_maps_are_not_taken_for_images(tmp_path):
    root = write_coco(tmp_path, [[BOX]])
    shutil.copytree(root / 'images' / 'train', root / 'gt')
    for split in ('train', 'val'):
        (root / 'images' / split).rename(root / f'photos_{split}')
    assert find_layout(root, {}).train.images == str(root / 'photos_train')


def test_names_with_folders_of_another_machine(tmp_path):
    root = write_coco(tmp_path, [[BOX]])
    for split in ('train', 'val'):
        path = root / f'annotations/instances_{split}.json'
        path.write_text(path.read_text().replace('"1.jpg"', '"C:\\\\data\\\\photos\\\\1.jpg"'))
    assert [report.used_objects for report in reports(root)] == [1, 1]
