"""The built-in sample in COCO's panoptic format: the maps, their segments and the other labels."""
import json

import cv2
import numpy as np
import pytest

from densessl.demo.sample import write_scenes
from densessl.demo.scenes import CLASSES, THINGS


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=0, train=4, val=0,
                        size=(96, 128))


def read(sample, kind):
    return json.loads((sample / 'annotations' / f'{kind}_train.json').read_text())


def test_segments_cover_the_image_and_agree_with_the_label_map(sample):
    content = read(sample, 'panoptic')
    names = {one['id']: one['name'] for one in content['categories']}
    assert {names[one['id']] for one in content['categories'] if one['isthing']} == set(THINGS)
    for entry in content['annotations']:
        colors = cv2.imread(str(sample / 'annotations/panoptic_train' / entry['file_name']))
        ids = colors[..., ::-1].astype(int) @ [1, 256, 256 ** 2]
        assert set(np.unique(ids)) == {one['id'] for one in entry['segments_info']}
        labels = cv2.imread(str(sample / 'labels/train' / entry['file_name']), -1)
        for one in entry['segments_info']:
            mask = ids == one['id']
            assert set(labels[mask]) == {CLASSES.index(names[one['category_id']])}
            assert one['area'] == mask.sum() and one['iscrowd'] == 0
            x, y, width, height = one['bbox']
            assert mask[y:y + height, x:x + width].sum() == mask.sum()


def test_things_are_the_objects_of_the_other_file(sample):
    panoptic, instances = read(sample, 'panoptic'), read(sample, 'instances')
    things = {one['id'] for one in panoptic['categories'] if one['isthing']}
    for entry in panoptic['annotations']:
        ours = sorted((one['category_id'], one['area'], one['bbox'])
                      for one in entry['segments_info'] if one['category_id'] in things)
        theirs = sorted((one['category_id'], one['area'], one['bbox'])
                        for one in instances['annotations']
                        if one['image_id'] == entry['image_id'])
        assert ours == theirs
