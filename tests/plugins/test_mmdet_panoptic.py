"""mmdet: panoptic quality against a naive count, and labels whatever the order of categories."""
import json
import shutil

import cv2
import numpy as np
import pytest

from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.finetune.downstream_config import read_downstream_config
from densessl_plugins.mmdet.panoptic_quality import OFFSET, PQStat, id2rgb, rgb2id

TWIN = 'downstream/panoptic_fpn_r18_coco'


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=0, train=2, val=2,
                        size=(96, 96))


def test_colors_and_ids_are_inverse():
    ids = np.random.default_rng(0).integers(0, OFFSET, (20, 30))
    assert (rgb2id(id2rgb(ids)) == ids).all()
    assert [rgb2id(id2rgb(int(one))) for one in ids[0]] == ids[0].tolist()
    assert rgb2id(np.uint8([1, 200, 3])) == 1 + 256 * 200 + 256 ** 2 * 3   # no overflow of uint8


def test_averages_are_of_the_categories_that_occur():
    stat, more = PQStat(), PQStat()
    stat[1].iou, stat[1].tp, stat[1].fp, stat[1].fn = 1.6, 2, 1, 1
    more[2].fn = 3
    stat += more
    categories = {1: {'isthing': 1}, 2: {'isthing': 0}, 3: {'isthing': 1}}
    average, each = stat.pq_average(categories, None)
    assert average == pytest.approx({'pq': 1.6 / 3 / 2, 'sq': 0.8 / 2, 'rq': 2 / 3 / 2, 'n': 2})
    assert each[3] == {'pq': 0.0, 'sq': 0.0, 'rq': 0.0}
    assert stat.pq_average(categories, True)[0] == pytest.approx(
        {'pq': 1.6 / 3, 'sq': 0.8, 'rq': 2 / 3, 'n': 1})
    assert PQStat().pq_average(categories, None)[0]['pq'] == 0     # nothing at all: no division


def naive_pq(truth, found, category):
    """Mean over categories, by comparing every true segment with every found one."""
    names, values = {category(i) for one in (*truth, *found) for i in np.unique(one).tolist()}, []
    for name in sorted(names):
        iou = tp = segments = 0
        for one, two in zip(truth, found, strict=True):
            ours = [one == i for i in np.unique(one).tolist() if category(i) == name]
            theirs = [two == i for i in np.unique(two).tolist() if category(i) == name]
            overlaps = [(a & b).sum() / (a | b).sum() for a in ours for b in theirs]
            iou += sum(x for x in overlaps if x > 0.5)
            tp += sum(x > 0.5 for x in overlaps)
            segments += len(ours) + len(theirs)
        values.append(iou / (segments / 2))       # tp + fp/2 + fn/2 = half of all segments
    return 100 * sum(values) / len(values)


@pytest.mark.parametrize('stuff_first', [False, True])
def test_the_metric_is_what_counting_gives(sample, tmp_path, stuff_first):
    """Truth shifted aside as the prediction, through dataset and metric as a run builds them."""
    import torch
    from mmdet.registry import DATASETS, METRICS
    from mmengine.registry import DefaultScope
    root = shutil.copytree(sample, tmp_path / 'data')
    if stuff_first:
        for path in (root / 'annotations').glob('panoptic_*.json'):
            content = json.loads(path.read_text())
            content['categories'].reverse()
            for one in content['images']:      # the sizes are in the files, too
                del one['width'], one['height']
            for each in content['annotations']:
                for one in each['segments_info']:
                    del one['iscrowd']
            path.write_text(json.dumps(content))
    cfg, target = read_downstream_config(TWIN)
    target.set_data(cfg, str(root))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = dataset.metainfo
    assert dataset.metainfo['classes'][:6] == dataset.metainfo['thing_classes']
    content = json.loads((root / 'annotations/panoptic_val.json').read_text())
    names = {one['id']: one['name'] for one in content['categories']}
    truth, shifted = [], []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        ids = rgb2id(cv2.imread(info['seg_map_path'])[..., ::-1])
        truth.append(ids)
        shifted.append(np.roll(ids, 7, 1))
        labels = np.full(ids.shape, len(dataset.metainfo['classes']))
        for one in info['segments_info']:
            assert dataset.metainfo['classes'][one['category']] == names[one['id'] % 256]
        for one in info['segments_info']:   # as a model says it: label + 1000 · object
            labels[shifted[-1] == one['id']] = one['category'] + 1000 * (one['id'] // 256)
        metric.process({}, [{**info, 'ori_shape': ids.shape, 'pred_panoptic_seg': {
            'sem_seg': torch.from_numpy(labels)[None]}}])
    scores = metric.evaluate(len(dataset))
    assert 5 < scores['coco_panoptic/PQ'] < 95
    assert scores['coco_panoptic/PQ'] == pytest.approx(
        naive_pq(truth, shifted, lambda i: i % 256), abs=1e-3)


def changed(function):
    def spoil(folder):
        path = folder / 'annotations/panoptic_train.json'
        content = json.loads(path.read_text())
        function(content)
        path.write_text(json.dumps(content))
    return spoil


def changed_segment(**values):
    return changed(lambda one: one['annotations'][0]['segments_info'][0].update(values))


@pytest.mark.parametrize(('spoil', 'words'), [
    (lambda f: (f / 'annotations/panoptic_val.json').unlink(), 'no annotations/panoptic_val.json'),
    (lambda f: next((f / 'annotations/panoptic_train').iterdir()).unlink(), '1 of the 2 .png'),
    (lambda f: next((f / 'images/val').iterdir()).unlink(), '1 of the 2 .jpg'),
    (lambda f: (f / 'annotations/panoptic_val.json').write_text('{}'), 'panoptic format'),
    (changed(lambda one: one['annotations'][0]['segments_info'][0].pop('area')), 'panoptic format'),
    (changed(lambda one: one['annotations'][0]['segments_info'][0].update(category_id=99)),
     'has annotations of category 99, which is not among its categories'),
    (changed(lambda one: one['annotations'][0].update(image_id=99)), 'annotations of image 99'),
    (changed(lambda one: one['images'].append(one['images'][0])), 'id 1 more than once'),
    (changed(lambda one: one['images'][0].update(file_name='a.jpeg')), 'the name of its image'),
    (changed(lambda one: one['annotations'].append(one['annotations'][0])),
     r'more than one annotation of image 1 \('),
    (changed_segment(bbox=[float('nan'), 0, 50, 20]), r'of image 1 \(.*bbox \[nan, 0, 50, 20\]'),
    (changed_segment(bbox=[10 ** 400, 0, 5, 5]), 'must be four finite numbers'),
    (changed_segment(bbox=[1, 2, 3]), r'bbox \[1, 2, 3\]'),
    (changed_segment(area='x'), "area 'x'"),
    (changed_segment(iscrowd='maybe'), "iscrowd 'maybe'"),
    (changed_segment(id='5'), "segment '5' of image 1"),
    (changed_segment(id=0), 'a whole number from 1 to 16777215'),
    (changed(lambda one: one['annotations'][0]['segments_info'].append(
        one['annotations'][0]['segments_info'][0])), 'must have an id of its own'),
    (changed(lambda one: one['categories'][0].update(isthing='maybe')), "isthing 'maybe'"),
    (changed(lambda one: one['categories'].append({'id': '13', 'name': 'x', 'isthing': 0})),
     "a category of id '13'"),
])
def test_what_is_missing_is_one_clear_line(sample, tmp_path, spoil, words):
    root = shutil.copytree(sample, tmp_path / 'data')
    spoil(root)
    cfg, target = read_downstream_config(TWIN)
    with pytest.raises(UsageError, match=words) as error:
        target.set_data(cfg, str(root))
    assert '\n' not in str(error.value)


def test_segments_are_counted_and_swapped_sizes_are_those_of_the_images(tmp_path):
    root = write_scenes(tmp_path, unlabelled=0, train=2, val=1, size=(96, 80))
    path = root / 'annotations/panoptic_train.json'
    content = json.loads(path.read_text())
    for one in content['images']:
        one['width'], one['height'] = one['height'], one['width']
    segments = [one for each in content['annotations'] for one in each['segments_info']]
    segments[0]['area'] = 0
    path.write_text(json.dumps(content))
    cfg, target = read_downstream_config(TWIN)
    target.set_data(cfg, str(root))
    train, val = target.inspect_data(cfg)
    assert (train.images, train.used_images) == (2, 2)
    assert (train.objects, train.used_objects) == (len(segments), len(segments) - 1)
    assert [len(one.files) for one in train.of_kind('mended')] == [2]
    assert str(train.of_kind('unusable')[0]).startswith('1 is left out by PanopticFolder (')
    assert not val.findings and all(len(sample) == 2 for sample in train.samples)


def test_images_without_annotation_are_named_and_left_out(sample, tmp_path, capsys):
    root = shutil.copytree(sample, tmp_path / 'data')
    path = root / 'annotations/panoptic_val.json'
    content = json.loads(path.read_text())
    lost = content['annotations'].pop()
    content['annotations'][0]['segments_info'] = []        # said to be without a label: it has some
    path.write_text(json.dumps(content))
    assert main(['check', TWIN, '--data-root', str(root)]) == 2
    said = capsys.readouterr().out
    assert 'val: 1 of 2 images and 0 of 0 objects' in said
    assert f'{root}/images/val/{lost["file_name"][:-4]}.jpg has no annotation\n' in said
    assert f'{root}/annotations/panoptic_val/00000.png holds segment ' in said


def test_flags_as_text_and_files_listed_twice_are_read_as_what_they_are(sample, tmp_path):
    root = shutil.copytree(sample, tmp_path / 'data')
    cfg, target = read_downstream_config(TWIN)
    wanted = target.set_data(cfg, str(root))
    for path in (root / 'annotations').glob('panoptic_*.json'):
        content = json.loads(path.read_text())
        for one in content['categories']:
            one['isthing'] = str(one['isthing'])
        path.write_text(json.dumps(content))
    assert target.set_data(cfg, str(root)) == wanted
    path = root / 'annotations/panoptic_train.json'
    content = json.loads(path.read_text())
    content['images'].append(content['images'][0] | {'id': 9})
    content['annotations'].append(content['annotations'][0] | {'image_id': 9})
    path.write_text(json.dumps(content))
    target.set_data(cfg, str(root))
    train, _ = target.inspect_data(cfg)
    assert train.used_objects == train.objects and not train.findings
