"""COCO's annotation files as exports write them: what is filled in, what is refused."""
from __future__ import annotations

import copy
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from pycocotools import mask as rle

from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.finetune.finetune import read_downstream_config
from densessl_plugins.mmdet.labels.annotations import normalize, read_annotations
from densessl_plugins.mmdet.labels.finding_log import FindingLog

OPTIONAL = {'images': ('width', 'height', 'license'),
            'annotations': ('id', 'bbox', 'area', 'iscrowd')}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('coco'), unlabelled=1, train=3, val=2,
                        size=(96, 80))


def content(root, split='train'):
    return json.loads((root / f'annotations/instances_{split}.json').read_text())


def bare(whole):
    """What is left when everything is out that can be filled in."""
    return {'categories': whole['categories'], **{
        kind: [{key: value for key, value in one.items() if key not in keys}
               for one in whole[kind]] for kind, keys in OPTIONAL.items()}}


def complete(found, images):
    """Bring annotations into one form; what was filled in, in words."""
    log = read(found, images)
    assert log.findings() == ()
    return log.filled_words()


def read(found, images):
    log = FindingLog()
    found.setdefault('categories', [{'id': 1, 'name': 'thing'}])
    normalize(found, images, log)
    return log


@pytest.fixture
def copied(scenes, tmp_path):
    """A copy of the data set and what changes the JSON of a split in it."""
    root = shutil.copytree(scenes, tmp_path / 'data')

    def change(function):
        for split in ('train', 'val'):
            path = root / f'annotations/instances_{split}.json'
            found = json.loads(path.read_text())
            path.write_text(json.dumps(function(found) or found))
    return root, change


def test_what_is_filled_in_is_what_a_whole_file_says(scenes):
    whole = content(scenes)
    stripped = bare(whole)
    said = complete(stripped, scenes / 'images/train')
    for found, told in zip(stripped['images'], whole['images'], strict=True):
        assert (found['height'], found['width']) == (told['height'], told['width']) == (96, 80)
    assert [one['id'] for one in stripped['annotations']] == list(
        range(1, len(whole['annotations']) + 1))
    for found, told in zip(stripped['annotations'], whole['annotations'], strict=True):
        assert found['iscrowd'] == 0
        assert found['bbox'] == pytest.approx(told['bbox'], abs=1.01)   # polygon or pixels
        assert found['area'] == pytest.approx(told['area'], rel=0.1)
    number = len(whole['annotations'])
    assert said.split(', ') == ['width and height of 3 images', *(
        f'{key} of {number} annotations' for key in ('iscrowd', 'bbox', 'area', 'id'))]
    assert complete(copy.deepcopy(stripped), scenes) == ''


def test_boxes_and_areas_of_every_kind_of_mask(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 5:45] = 1
    mask[15:30, 30:50] = 1
    encoded = rle.encode(np.asfortranarray(mask))
    runs = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=1))
    compressed = {'size': [40, 60], 'counts': encoded['counts'].decode()}
    counts = {'size': [40, 60], 'counts': np.diff(runs, prepend=0).tolist()}
    parts = [[5, 10, 45, 10, 45, 20, 5, 20], [30, 15, 50, 15, 50, 30, 30, 30]]   # they overlap
    one = {'image_id': 1, 'category_id': 1}
    found = {'images': [{'id': 1, 'file_name': 'a.png', 'height': 40, 'width': 60}],
             'annotations': [{**one, 'segmentation': shape} for shape in (
                 compressed, counts, parts, parts[0])]
             + [{**one, 'bbox': [1, 2, 3, 4]}]}
    complete(found, tmp_path)
    *masks, polygon, box = found['annotations']
    assert [each['area'] for each in masks] == [mask.sum()] * 3
    assert [each['bbox'] for each in masks] == [[5, 10, 45, 20]] * 3
    assert polygon['bbox'] == [5, 10, 40, 10] and polygon['area'] == 400
    assert polygon['segmentation'] == [parts[0]]
    assert box['area'] == 12


def test_sizes_are_of_the_image_as_it_is_displayed(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((30, 50, 3), np.uint8))
    (tmp_path / 'b.png').write_bytes(b'no image')
    for written, filled in (({'width': 50.0, 'height': '30'}, ''),
                            ({'width': None}, 'width and height of 1 image')):
        found = {'images': [{'id': 1, 'file_name': 'a.png', **written}], 'annotations': []}
        assert complete(found, tmp_path) == filled
        assert (found['images'][0]['height'], found['images'][0]['width']) == (30, 50)
    found['images'].append({'id': 2, 'file_name': 'b.png'})
    found['annotations'].append({'image_id': 2, 'category_id': 1, 'bbox': [1, 2, 3, 4]})
    assert [one.sentence() for one in read(found, tmp_path).findings()] == [
        '1 image cannot be read: not an image, or of an unknown kind (b.png)',
        '1 object is of images that cannot be read (b.png)']
    assert [one['file_name'] for one in found['images']] == ['a.png']
    assert found['annotations'] == []


@pytest.mark.parametrize('written', [{'width': 0, 'height': 30}, {'width': -50, 'height': -30},
                                     {'width': 'wide', 'height': 30}, {'width': 50.5}])
def test_a_size_that_is_none_is_replaced_and_named(written, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((30, 50, 3), np.uint8))
    found = {'images': [{'id': 1, 'file_name': 'a.png', **written}], 'annotations': []}
    (finding,) = read(found, tmp_path).findings()
    assert (found['images'][0]['height'], found['images'][0]['width']) == (30, 50)
    assert finding.sentence() == ('1 image has a width or height in the file that is not a '
                                  'positive whole number; the size of the image is taken (a.png)')


@pytest.mark.parametrize('ids', ['as they are', 'names'])
def test_a_bare_file_scores_as_the_whole_one(copied, ids):
    root, change = copied
    truth = content(root, 'val')
    change(bare)
    if ids == 'names':
        change(lambda one: [image.update(id=f'image {image["id"]}') for image in one['images']]
               + [each.update(image_id=f'image {each["image_id"]}') for each in one['annotations']]
               and None)
    before = (root / 'annotations/instances_val.json').read_bytes()
    cfg, target = read_downstream_config('downstream/mask_rcnn_r18_coco')
    lines = target.set_data(cfg, str(root))
    assert 'instances_val.json lacks, filled in while it is read: width and height' in lines[-1]
    from mmdet.registry import DATASETS, METRICS
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        train = DATASETS.build(cfg.train_dataloader.dataset)
        assert len(train) == 3 and len(train[0]['data_samples'].gt_instances) > 0
        val, metric = DATASETS.build(cfg.val_dataloader.dataset), METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    for index in range(len(val)):
        metric.process({}, [perfect(val.get_data_info(index), truth['images'][index])])
    scores = metric.evaluate(len(val))
    assert scores['coco/bbox_mAP'] > 0.99 and scores['coco/segm_mAP'] > 0.99
    assert (root / 'annotations/instances_val.json').read_bytes() == before


def perfect(info, image):
    """A model's output that is the truth."""
    boxes = [one['bbox'] for one in info['instances']]
    shapes = [rle.merge(rle.frPyObjects(one['mask'], image['height'], image['width']))
              if isinstance(one['mask'], list) else one['mask'] for one in info['instances']]
    return {'img_id': info['img_id'], 'ori_shape': (image['height'], image['width']),
            'pred_instances': {
                'bboxes': torch.tensor(boxes, dtype=torch.float), 'masks': shapes,
                'scores': torch.ones(len(boxes)),
                'labels': torch.tensor([one['bbox_label'] for one in info['instances']])}}


def test_a_bare_file_trains_by_one_command(copied, tmp_path, capsys):
    root, change = copied
    change(bare)
    assert main(['finetune', 'downstream/mask_rcnn_r18_coco', '--backbone', 'random', '--data-root',
                 str(root), '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                 'train_cfg.max_iters=1', 'train_dataloader.batch_size=2',
                 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']) == 0
    said = capsys.readouterr().out
    assert 'instances_train.json lacks, filled in while it is read: width' in said
    assert 'box AP' in said.splitlines()[-1]


@pytest.mark.parametrize(('spoil', 'words'), [
    (lambda one: one['images'].append({**one['images'][0], 'file_name': 'other.jpg'}),
     'id 1 more than once among its images'),
    (lambda one: one['categories'].append({**one['categories'][0], 'name': 'other'}),
     'id 1 more than once among its categories'),
    (lambda one: one['annotations'][0].pop('image_id'), 'not in COCO’s format'),
    (lambda one: one['images'][0].pop('file_name'), 'not in COCO’s format'),
    (lambda one: one['categories'][0].pop('name'), 'not in COCO’s format'),
    (lambda one: one.update(annotations={}), 'with 0 annotations'),
    (lambda one: [each.update(category_id=77) for each in one['annotations']],
     'are of category 77, which the file does not list'),
    (lambda one: [each.update(bbox=None, segmentation=[]) for each in one['annotations']],
     'have neither a box nor an outline'),
    (lambda one: [each.pop('segmentation') for each in one['annotations']],
     'trains masks, but the objects in'),
])
def test_what_cannot_be_used_is_one_line(copied, tmp_path, capsys, spoil, words):
    root, change = copied
    change(lambda one: spoil(one) and None)
    assert main(['finetune', 'downstream/mask_rcnn_r18_coco', '--backbone', 'random', '--data-root',
                 str(root), '--work-dir', str(tmp_path / 'run')]) == 2
    line, = capsys.readouterr().err.strip().splitlines()
    assert words in line and 'instances_train.json' in line
    assert not (tmp_path / 'run').exists()


def test_masks_are_asked_for_where_they_are_evaluated_and_nowhere_else(copied):
    root, _ = copied
    path = root / 'annotations/instances_val.json'
    found = read_annotations(path)
    for one in found['annotations']:
        one['segmentation'] = []
    path.write_text(json.dumps(found))
    cfg, target = read_downstream_config('downstream/mask_rcnn_r18_coco')
    with pytest.raises(UsageError, match=r'evaluates masks.*instances_val.*retinanet'):
        target.set_data(cfg, str(root))
    cfg, target = read_downstream_config('downstream/retinanet_r18_coco')
    target.set_data(cfg, str(root))
