"""Odd annotations in COCO's format: what of them MMDetection's data set holds, and what is said."""
from __future__ import annotations

import json

import numpy as np
import pytest
from labelled_photos import (
    SIDES,
    boxes_in_pipeline,
    built,
    finetune_tiny,
    perfect_scores,
    reports,
    set_up,
    told,
    write_coco,
)
from pycocotools import mask as rle

from densessl.errors import UsageError
from densessl_plugins.mmdet.labels.outlines import usable_outline

WIDTH, HEIGHT = SIDES
GOOD = [5, 6, 20, 12]
POLYGON = [[5, 6, 25, 6, 25, 18, 5, 18]]


def runs(height=HEIGHT, width=WIDTH, first=10, filled=100):
    return {'size': [height, width], 'counts': [first, filled, height * width - first - filled]}


UNUSABLE = {    # what is odd in an annotation: what is said
    'outside': ({'bbox': [70, 5, 9, 9]}, 'lie outside their image'),
    'no width': ({'bbox': [5, 5, 0, 9]}, 'have no area'),
    'half a pixel': ({'bbox': [5, 5, 9, .5]}, 'are less than a pixel wide or high'),
    'NaN': ({'bbox': [5, 5, float('nan'), 9]}, 'have a box that is not four finite numbers'),
    'words': ({'bbox': ['left', 5, 6, 9]}, 'have a box that is not four finite numbers'),
    'three': ({'bbox': [5, 5, 9]}, 'have a box that is not four finite numbers'),
    'nothing': ({'bbox': None}, 'have neither a box nor an outline'),
    'maybe a crowd': ({'bbox': GOOD, 'iscrowd': 'maybe'},
                      "have iscrowd 'maybe', which must be 0 or 1"),
    'category': ({'bbox': GOOD, 'category_id': 9}, 'are of category 9, which the file does not list'
                 ),
}
MENDED = {      # what is odd: the box that training sees, what is said
    'text': ({'bbox': ['5', '6', '20', '12.0']}, [5, 6, 25, 18], None),
    'crowd as text': ({'bbox': GOOD, 'iscrowd': '0'}, [5, 6, 25, 18], 'have iscrowd or ignore as'),
    'ignore as text': ({'bbox': GOOD, 'ignore': '0'}, [5, 6, 25, 18], 'have iscrowd or ignore as'),
    'area of text': ({'bbox': GOOD, 'area': '240'}, [5, 6, 25, 18], None),
    'negative area': ({'bbox': GOOD, 'area': -3}, [5, 6, 25, 18], 'have an area that is not'),
    'no area': ({'bbox': GOOD, 'area': 0}, [5, 6, 25, 18], 'have an area that is not a positive'),
    'null area': ({'bbox': GOOD, 'area': None}, [5, 6, 25, 18], None),
    'area of words': ({'bbox': GOOD, 'area': 'big'}, [5, 6, 25, 18], 'have an area that is not'),
    'right to left': ({'bbox': [25, 18, -20, -12]}, [5, 6, 25, 18], 'have a box of negative'),
    'partly outside': ({'bbox': [50, 30, 40, 40]}, [50, 30, 60, 40], 'reach out of their image'),
    'NaN with outline': ({'bbox': [float('nan')] * 4, 'segmentation': POLYGON}, [5, 6, 25, 18],
                         'have a box that is not four finite numbers; that around'),
    'points': ({'segmentation': [[5, 6], [25, 6], [25, 18], [5, 18]]}, [5, 6, 25, 18], None),
    'category as text': ({'bbox': GOOD, 'category_id': '1'}, [5, 6, 25, 18], None),
}


@pytest.fixture(scope='module')
def odd(tmp_path_factory):
    """Reports and boxes of a set with every oddity, each in a photo of its own beside a cat."""
    kinds = {**UNUSABLE, **MENDED}
    root = write_coco(tmp_path_factory.mktemp('odd'),
                      [[GOOD, entry[0]] for entry in kinds.values()])
    cfg, _, target = set_up(root)
    train, val = target.inspect_data(cfg)
    return cfg, train, val, boxes_in_pipeline(built(cfg, 'train')), list(kinds)


@pytest.mark.parametrize('kind', UNUSABLE)
def test_what_cannot_be_used_is_named_and_leaves_the_rest(odd, kind):
    _, train, val, boxes, kinds = odd
    number = kinds.index(kind)
    assert len(boxes[number]) == 1
    for report in (train, val):
        assert f'{number + 1}.jpg' in told(report)[UNUSABLE[kind][1]]


@pytest.mark.parametrize('kind', MENDED)
def test_what_has_a_plain_meaning_is_used_in_it(odd, kind):
    _, train, _, boxes, kinds = odd
    number, (_, expected, words) = kinds.index(kind), MENDED[kind]
    flat = sorted(boxes[number], key=lambda box: box != pytest.approx([5, 6, 25, 18], abs=.1))
    assert len(flat) == 2 and flat[-1] == pytest.approx(expected, abs=.1)
    said = [found for found, files in told(train, 'mended').items() if f'{number + 1}.jpg' in files]
    assert len(said) == (words is not None) and all(one.startswith(words) for one in said)


def test_counts_are_those_of_the_built_data_set_and_evaluation_uses_the_same(odd):
    cfg, train, val, boxes, kinds = odd
    assert (train.images, train.used_images) == (len(kinds), len(kinds))
    assert train.objects == 2 * len(kinds) and train.used_objects == sum(map(len, boxes))
    assert train.used_objects == 2 * len(kinds) - len(UNUSABLE)
    assert f'train: {len(UNUSABLE)} of {2 * len(kinds)} objects cannot be used: ' in ' '.join(
        train.lines())
    assert len(val.samples) == len(kinds) and val.samples[0][0].endswith('images/val/1.jpg')
    scores = perfect_scores(cfg)
    assert scores['coco/bbox_mAP'] == pytest.approx(1, abs=1e-6)


def test_ignored_objects_neither_train_nor_score(tmp_path):
    root = write_coco(tmp_path, [[GOOD, {'bbox': [30, 20, 15, 15], 'ignore': 1},
                                  {'bbox': [1, 25, 15, 12], 'iscrowd': '1'}]])
    cfg, _, target = set_up(root)
    train, _ = target.inspect_data(cfg)
    assert (train.objects, train.used_objects) == (3, 1) and not train.of_kind('unusable')
    assert [len(one.files) for one in train.of_kind('expected')] == [2]
    # the stock data set drops what is to be ignored, which would make it background
    assert [one['ignore_flag'] for one in built(cfg, 'train').get_data_info(0)['instances']] \
        == [0, 1, 1]
    assert perfect_scores(cfg)['coco/bbox_mAP'] == 1


def test_boxes_in_shares_of_the_image_are_read_as_such(tmp_path):
    shares = [5 / WIDTH, 6 / HEIGHT, 20 / WIDTH, 12 / HEIGHT]
    outline = [[value / (HEIGHT if at % 2 else WIDTH) for at, value in enumerate(POLYGON[0])]]
    root = write_coco(tmp_path, [[{'bbox': shares, 'area': .1, 'segmentation': outline}]] * 2)
    cfg, _, target = set_up(root, 'mask_rcnn_r18_coco')
    assert boxes_in_pipeline(built(cfg, 'train')) == [[pytest.approx([5, 6, 25, 18], abs=.1)]] * 2
    assert told(target.inspect_data(cfg)[0], 'mended') == {
        'have a box in shares of the image (0 … 1), read as such': ['1.jpg', '2.jpg']}
    scores = perfect_scores(cfg)
    assert scores['coco/bbox_mAP'] > .999 and scores['coco/segm_mAP'] > .999
    # with one box in pixels it is not clear any more
    write_coco(tmp_path, [[shares, GOOD]])
    assert told(reports(tmp_path)[0]) == {'are less than a pixel wide or high': ['1.jpg']}


OUTLINES = {
    'two points': ([[1, 2, 3, 4]], 'have an outline of fewer than three points'),
    'none': ([], 'have no outline'),
    'NaN': ([[1, 2, 3, float('nan'), 9, 9]], 'have an outline of fewer than three points'),
    'far': ([[1, 2, 1e9, 3, 9, 9]], 'have an outline that reaches far out of their image'),
    'other size': (runs(10, 20, 10, 50), 'have a run-length mask of another size'),
    'transposed': (runs(WIDTH, HEIGHT), 'have a run-length mask of another size'),
    'too short': ({'size': [HEIGHT, WIDTH], 'counts': [10, 100]},
                  'have a run-length mask that cannot be decoded'),
    'garbage': ({'size': [HEIGHT, WIDTH], 'counts': 'zz~zz'},
                'have a run-length mask that cannot be decoded'),
    'no counts': ({'size': [HEIGHT, WIDTH]}, 'have a run-length mask that cannot be decoded'),
    'empty': (runs(first=0, filled=0), 'have a mask without a pixel'),
}


def test_objects_without_a_usable_outline_neither_train_nor_score_masks(tmp_path):
    photos = [[{'bbox': GOOD, 'segmentation': POLYGON}, {'bbox': GOOD, 'segmentation': outline}]
              for outline, _ in OUTLINES.values()]
    photos.append([{'bbox': [5, 6, 25, 18], 'segmentation': runs()},
                   {'bbox': GOOD, 'segmentation': [POLYGON[0], [1, 2, 3, 4]]},
                   {'bbox': GOOD, 'segmentation': POLYGON[0]}])
    root = write_coco(tmp_path, photos)
    cfg, _, target = set_up(root, 'mask_rcnn_r18_coco')
    train, _ = target.inspect_data(cfg)
    found = told(train)
    for number, (_, words) in enumerate(OUTLINES.values(), 1):
        assert f'{number}.jpg' in next(files for said, files in found.items()
                                       if said.startswith(words))
    data = built(cfg, 'train')
    samples = [data[number]['data_samples'] for number in range(len(data))]
    assert [len(one.gt_instances) for one in samples] == [1] * len(OUTLINES) + [3]
    assert [len(one.ignored_instances) for one in samples] == [1] * len(OUTLINES) + [0]
    assert train.used_objects == len(OUTLINES) + 3
    assert all(one.gt_instances.masks.masks.reshape(len(one.gt_instances), -1).any(1).all()
               for one in samples)
    scores = perfect_scores(cfg)
    assert scores['coco/segm_mAP'] > .999 and scores['coco/bbox_mAP'] > .999
    # boxes alone are all that a detector of boxes needs
    assert reports(root)[0].used_objects == 2 * len(OUTLINES) + 3


@pytest.mark.parametrize('shape', [(1, 1), (7, 5), (40, 60), (300, 200)])
def test_compressed_masks_are_whole(shape):
    mask = np.random.default_rng(0).random(shape) < .5
    mask[0, 0] = True
    text = rle.encode(np.asfortranarray(mask.astype(np.uint8)))['counts'].decode()
    for counts in (text, text + '00'):       # two more runs, of no length or taking some back
        outline, problem = usable_outline({'size': list(shape), 'counts': counts}, shape)
        assert (outline is not None) == (counts == text), problem
    assert usable_outline({'size': list(shape), 'counts': text[:-1]}, shape)[0] is None


TALL = [5, 42, 20, 12]      # only in an image of 40 × 60 pixels, as displayed
WIDE = [42, 5, 12, 20]      # only in one of 60 × 40, as stored


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_photos_turned_by_exif_score_exactly(tmp_path, orientation):
    """The tool wrote the sizes of the stored images, people drew on the displayed ones."""
    root = write_coco(tmp_path, [[TALL], [GOOD]], orientation=orientation)
    cfg, _, target = set_up(root)
    train, _ = target.inspect_data(cfg)
    assert train.used_objects == 2
    (words, files), = told(train, 'mended').items()
    assert 'as stored, without its EXIF rotation' in words and files == ['1.jpg', '2.jpg']
    data = built(cfg, 'train')
    assert [(one['height'], one['width']) for one in map(data.get_data_info, range(2))] \
        == [(WIDTH, HEIGHT)] * 2
    assert data[0]['data_samples'].ori_shape == (WIDTH, HEIGHT)
    assert boxes_in_pipeline(data)[0] == [pytest.approx([5, 42, 25, 54], abs=.2)]
    assert perfect_scores(cfg)['coco/bbox_mAP'] == 1


def test_objects_drawn_on_the_stored_image_are_named(tmp_path):
    root = write_coco(tmp_path / 'both', [[WIDE], [GOOD], [TALL]], orientation=6)
    train, _ = reports(root)
    assert told(train) == {
        'are drawn on the image as stored, without its EXIF rotation': ['1.jpg'],
        'have objects that are drawn on the image as stored, without its EXIF rotation': ['1.jpg']}
    assert (train.used_images, train.used_objects) == (2, 2)
    # where some must be on the stored image and none on the other, so are those that may be
    root = write_coco(tmp_path / 'stored', [[WIDE], [GOOD]], orientation=6)
    with pytest.raises(UsageError, match='no image that can be used for train: 2 objects are drawn '
                                         'on the image as stored'):
        reports(root)[0].require_usable()
    # the right sizes in the file: nothing to say
    root = write_coco(tmp_path / 'right', [[TALL]], orientation=6, written=(HEIGHT, WIDTH))
    assert not reports(root)[0].findings
    # a mask says of which size the image was
    outline = {'bbox': GOOD, 'segmentation': runs(WIDTH, HEIGHT)}
    root = write_coco(tmp_path / 'mask', [[outline]], orientation=6)
    assert reports(root)[0].used_objects == 1


def test_sizes_of_other_images(tmp_path):
    double = (2 * WIDTH, 2 * HEIGHT)
    root = write_coco(tmp_path / 'reduced', [[[70, 50, 20, 12], GOOD], [GOOD]], written=double)
    assert set(told(reports(root)[0])) >= {'are drawn on an image of another size than theirs'}
    root = write_coco(tmp_path / 'wrong', [[[40, 25, 18, 12]], [GOOD]],
                      written=(WIDTH // 2, HEIGHT // 2))
    train, _ = reports(root)
    assert train.used_objects == 2 and [len(one.files) for one in train.of_kind('mended')] == [2]
    root = write_coco(tmp_path / 'unsure', [[GOOD]], written=double)
    assert reports(root)[0].used_objects == 0
    root = write_coco(tmp_path / 'rounded', [[GOOD]], written=(WIDTH + 1, HEIGHT))
    assert not reports(root)[0].findings


def test_small_images_and_empty_ones(tmp_path):
    root = write_coco(tmp_path / 'a', [[GOOD], [], [[70, 5, 9, 9]]])
    train, val = reports(root)
    assert told(train, 'expected') == {
        'have no object to train on, which filter_cfg.filter_empty_gt leaves out': ['2.jpg']}
    assert told(train)['lie outside their image'] == ['3.jpg']
    assert (val.used_images, val.used_objects) == (3, 1)
    root = write_coco(tmp_path / 'b', [[[2, 2, 9, 9]], [[2, 2, 9, 9]]], size=(30, 31))
    with pytest.raises(UsageError, match=r'no image.*2 images are smaller than 32 pixels.*1\.jpg'):
        reports(root)[0].require_usable()


def test_a_photo_that_is_listed_twice_is_counted_twice(tmp_path):
    root = write_coco(tmp_path, [[GOOD], [GOOD, [30, 5, 20, 20]]])
    path = root / 'annotations/instances_train.json'
    path.write_text(path.read_text().replace('"2.jpg"', '"1.jpg"'))
    train, _ = reports(root)
    assert (train.used_images, train.used_objects, train.findings) == (2, 3, ())


def test_categories_are_told_apart_by_name(tmp_path):
    root = write_coco(tmp_path, [[GOOD, {'bbox': [30, 5, 20, 20], 'category_id': 2}]])
    path = root / 'annotations/instances_val.json'
    content = json.loads(path.read_text())
    content['categories'] = [{'id': 7, 'name': 'dog'}, {'id': 8, 'name': ' dog '},
                             {'id': 9, 'name': 'horse'}]
    for one, number in zip(content['annotations'], (8, 9), strict=True):
        one['category_id'] = number
    path.write_text(json.dumps(content))
    cfg, _, target = set_up(root)
    assert built(cfg, 'train').metainfo['classes'] == ('cat', 'dog')
    val = built(cfg, 'val')
    assert [one['bbox_label'] for one in val.get_data_info(0)['instances']] == [1]
    assert told(target.inspect_data(cfg)[1]) == {
        "are of class 'horse', which the training data does not have": ['1.jpg']}
    assert perfect_scores(cfg)['coco/bbox_mAP'] == 1


def test_ids_that_occur_twice_lose_nothing(tmp_path):
    root = write_coco(tmp_path, [[{'bbox': GOOD, 'id': 1}, {'bbox': [30, 5, 20, 20], 'id': 1}]])
    cfg, lines, target = set_up(root)
    assert target.inspect_data(cfg)[0].used_objects == 2 and 'id of 2 annotations' in lines[1]
    assert perfect_scores(cfg)['coco/bbox_mAP'] == 1


def test_exif_photos_go_to_scores_by_one_command(tmp_path, capsys):
    root = write_coco(tmp_path / 'data', [[TALL], [GOOD]], orientation=6)
    assert finetune_tiny(root, tmp_path / 'run') == 0
    said = capsys.readouterr().out
    assert 'data: train: 2 images have the width and height of the image as stored' in said
    assert 'box AP' in said.splitlines()[-1]
    assert json.loads((tmp_path / 'run/scores.json').read_text())['scores']
