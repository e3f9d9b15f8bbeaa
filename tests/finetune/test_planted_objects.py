"""`densessl check` on COCO and VOC data with faults of images and annotations: found by file."""
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted_faults import change, cut, draw, turn

from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.labelled_data import inspect_labelled
from densessl.labels.data_check import check_data
from densessl.labels.pixel_labels import find_pixel_labels, label_reports

SIDES = (48, 64)      # height, width


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIDES, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def outline(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def entry(image, x, y, w, h, category=1):
    return {'image_id': image, 'category_id': category, 'bbox': [x, y, w, h], 'area': w * h,
            'iscrowd': 0, 'segmentation': outline(x, y, w, h)}


def draw_coco(root, number):
    """``number`` training images and two for validation, two objects each."""
    (root / 'annotations').mkdir(parents=True)
    for split, many in (('train', number), ('val', 2)):
        images = [{'id': i + 1, 'file_name': f'{split}_{i:02d}.jpg', 'height': SIDES[0],
                   'width': SIDES[1]} for i in range(many)]
        for one in images:
            picture(root / 'images' / split / one['file_name'], one['id'])
        objects = [entry(one['id'], *box, category) for one in images
                   for box, category in (((4, 4, 20, 10), 1), ((30, 20, 30, 25), 2))]
        for i, one in enumerate(objects):
            one['id'] = i + 1
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps({
            'images': images, 'annotations': objects,
            'categories': [{'id': 1, 'name': 'cup'}, {'id': 2, 'name': 'hat'}]}))
    return root


COCO = [      # name, plant(image entry, its first object, image file), a word about it
    ('a box outside', lambda i, o, f: o.update(entry(i['id'], 100, 100, 9, 9)), 'outside'),
    ('no area', lambda i, o, f: o.update(bbox=[4, 4, 0, 9], area=0, segmentation=[]), 'area'),
    ('boxes from 0 to 1', lambda i, o, f: o.update(entry(i['id'], .1, .1, .5, .3)), 'pixel'),
    ('a polygon of two points', lambda i, o, f: o.update(segmentation=[[4, 4, 24, 14]]), 'points'),
    ('a mask of another size', lambda i, o, f: o.update(
        segmentation={'size': [9, 9], 'counts': [40, 41]}), 'size'),
    ('a crowd that may be one', lambda i, o, f: o.update(iscrowd='perhaps'), 'iscrowd'),
    ('drawn on the stored photo', lambda i, o, f: turn(f), 'EXIF'),
    ('no numbers', lambda i, o, f: o.update(bbox=['a', 'b', 'c', 'd'], segmentation=[]), 'box'),
    ('half an image', lambda i, o, f: cut(f), 'missing'),
    ('text as image', lambda i, o, f: f.write_text('no image'), 'not an image'),
    ('an empty image', lambda i, o, f: f.write_bytes(b''), 'empty'),
]


def check(config, root, capsys):
    code = main(['check', config, '--data-root', str(root)])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.strip().splitlines()


def plant_coco(root, rows):
    path = root / 'annotations/instances_train.json'
    content = json.loads(path.read_text())
    planted = []
    for (name, spoil, word), image in zip(rows, content['images'], strict=False):
        own = [one for one in content['annotations'] if one['image_id'] == image['id']]
        file = root / 'images/train' / image['file_name']
        spoil(image, own[0], file)
        planted.append((name, str(file), word))
    path.write_text(json.dumps(content))
    return planted


@pytest.mark.parametrize('config', ['mask_rcnn_r18_coco'])
def test_every_planted_fault_of_coco_is_found_by_file(config, tmp_path, capsys):
    root = draw_coco(tmp_path, len(COCO) + 1)
    code, said, error = check(f'downstream/{config}', root, capsys)
    assert (code, error) == (0, []) and 'all of them can be used' in said[-1]
    planted = plant_coco(root, COCO)
    code, said, error = check(f'downstream/{config}', root, capsys)
    missed = [name for name, path, word in planted
              if not any(line.startswith(path) and word in line for line in said)]
    assert (code, missed) == (2, []), '\n'.join(said + error)


def test_what_is_read_otherwise_than_written_is_named_file_by_file(tmp_path, capsys):
    root = draw_coco(tmp_path, 12)
    odd = [('reaches out', lambda i, o, f: o.update(bbox=[40, 30, 50, 50]), 'the part inside')] * 4
    odd += [('an area', lambda i, o, f: o.update(area=-4), 'an area that')] * 4
    odd += [('a size', lambda i, o, f: i.update(width=0), 'has a width or height')] * 4
    planted = plant_coco(root, odd)
    code, said, error = check('downstream/mask_rcnn_r18_coco', root, capsys)
    assert (code, error) == (0, [])
    assert [name for name, path, word in planted if sum(
        line.startswith(path) and word in line for line in said) != 1] == []


def test_of_an_image_that_is_left_out_its_objects_are_not_named_again(tmp_path, capsys):
    root = draw_coco(tmp_path, 3)
    (_, path, _), = plant_coco(root, [('', lambda i, o, f: turn(f), '')])
    code, said, error = check('downstream/mask_rcnn_r18_coco', root, capsys)
    assert code == 2 and error[-1].startswith('densessl check: 1 fault in')
    assert [line for line in said if line.startswith(path)] == [
        f'{path} has objects that are drawn on the image as stored, without its EXIF rotation']


@pytest.mark.parametrize(('name', 'spoil', 'word'), [
    ('no image', lambda c, f: f.unlink(), 'train_00.jpg'),
    ('an unknown category', lambda c, f: c['annotations'][0].update(category_id=7), '7'),
    ('an id twice', lambda c, f: c['images'][1].update(id=1), 'more than once'),
    ('of an image that is not listed', lambda c, f: c['annotations'][0].update(image_id=99),
     'of an image that the file'),
])
def test_what_makes_a_coco_file_wrong_as_a_whole_is_one_line(name, spoil, word, tmp_path, capsys):
    root = draw_coco(tmp_path, 2)
    path = root / 'annotations/instances_train.json'
    content = json.loads(path.read_text())
    spoil(content, root / 'images/train/train_00.jpg')
    path.write_text(json.dumps(content))
    code, said, error = check('downstream/mask_rcnn_r18_coco', root, capsys)
    assert code == 2 and any(word in line and ('train_00.jpg' in line or path.name in line)
                             for line in [*said, *error]), said + error


# -- VOC ------------------------------------------------------------------------------------------

OBJECT = ('<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{xmin}</xmin>'
          '<ymin>5</ymin><xmax>{xmax}</xmax><ymax>25</ymax></bndbox></object>')


def an_object(name='cat', difficult=0, xmin=5, xmax=30):
    return OBJECT.format(**locals())


def xml(*objects, width=SIDES[1], height=SIDES[0]):
    return (f'<annotation><size><width>{width}</width><height>{height}</height></size>'
            f'{"".join(objects)}</annotation>')


def draw_voc(root, number):
    year = root / 'VOC2007'
    for split, many in (('trainval', number), ('test', 2)):
        names = [f'{split}_{i:02d}' for i in range(many)]
        for i, name in enumerate(names):
            picture(year / 'JPEGImages' / f'{name}.jpg', i)
            path = year / 'Annotations' / f'{name}.xml'
            path.parent.mkdir(exist_ok=True)
            path.write_text(xml(an_object(), an_object('dog', xmin=20, xmax=60)))
        listed = year / 'ImageSets/Main' / f'{split}.txt'
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text('\n'.join(names) + '\n')
    return root


VOC = [     # name, plant(XML file, image file), a word
    ('no name', lambda x, f: x.write_text(xml(an_object(''), an_object())), 'name'),
    ('no box', lambda x, f: x.write_text(xml('<object><name>cat</name></object>', an_object())),
     'box'),
    ('no numbers', lambda x, f: x.write_text(xml(an_object(xmin='left'), an_object())), 'box'),
    ('a box outside', lambda x, f: x.write_text(xml(an_object(xmin=200, xmax=300), an_object())),
     'outside'),
    ('difficult in words', lambda x, f: x.write_text(xml(an_object(difficult='perhaps'),
                                                         an_object())), 'difficult'),
    ('half an image', lambda x, f: cut(f), 'missing'),
    ('text as image', lambda x, f: f.write_text('no image'), 'not an image'),
    ('drawn on the stored photo', lambda x, f: turn(f), 'EXIF'),
]


def test_every_planted_fault_of_voc_is_found_by_file(tmp_path, capsys):
    root = draw_voc(tmp_path, len(VOC) + 1)
    code, said, error = check('downstream/faster_rcnn_c4_r18_voc', root, capsys)
    assert (code, error) == (0, []) and 'all of them can be used' in said[-1]
    for i, (_, spoil, _) in enumerate(VOC):
        spoil(root / f'VOC2007/Annotations/trainval_{i:02d}.xml',
              root / f'VOC2007/JPEGImages/trainval_{i:02d}.jpg')
    code, said, error = check('downstream/faster_rcnn_c4_r18_voc', root, capsys)
    missed = [name for i, (name, _, word) in enumerate(VOC) if not any(
        line.startswith(str(root / 'VOC2007')) and f'trainval_{i:02d}.' in line.split()[0]
        and word in line for line in said)]
    assert (code, missed) == (2, []), '\n'.join(said + error)


@pytest.mark.parametrize(('name', 'spoil', 'file'), [
    ('no XML', lambda y: (y / 'Annotations/trainval_00.xml').write_text('no XML'),
     'trainval_00.xml'),
    ('a missing XML', lambda y: (y / 'Annotations/trainval_00.xml').unlink(), 'trainval_00.'),
    ('no image', lambda y: (y / 'JPEGImages/trainval_00.jpg').unlink(), 'trainval_00.jpg'),
])
def test_what_makes_a_devkit_wrong_as_a_whole_names_the_file(name, spoil, file, tmp_path, capsys):
    root = draw_voc(tmp_path, 2)
    spoil(root / 'VOC2007')
    code, said, error = check('downstream/faster_rcnn_c4_r18_voc', root, capsys)
    assert code == 2 and any(file in line for line in [*said, *error]), said + error


@pytest.mark.parametrize('line', [
    '{} 1', '{}.jpg', ' {} ', '/JPEGImages/{}.jpg /SegmentationClass/{}.png'])
def test_lists_of_label_maps_may_be_written_as_people_have_them(line, tmp_path):
    pairs = draw(tmp_path, 'voc', 2)
    for path in pairs[0]:
        path.rename(path.with_stem('a name'))
    for name in ('train', 'train_aug'):
        (tmp_path / f'ImageSets/Segmentation/{name}.txt').write_text('\n\n'.join(
            line.format(stem, stem) for stem in ('a name', pairs[1][0].stem)))
    cfg, target = read_downstream_config('downstream/fcn_r18_voc12aug')
    target.set_data(cfg, str(tmp_path))
    for reports in (inspect_labelled(cfg, target)[0], label_reports(find_pixel_labels(tmp_path))):
        assert check_data(reports, progress=False).faults == []
        assert [Path(image).stem for image, _ in reports[0].samples] == ['a name', 'train_01']


# -- panoptic maps ---------------------------------------------------------------------------------

PANOPTIC = [     # name, plant(map, image), which of the two is named, a word
    ('other colors', lambda m, i: change(m, lambda v: v // 2), 'map', 'do not list'),
    ('a segment painted over', lambda m, i: change(m, lambda v: np.where(
        (v == v[0, 0]).all(-1, keepdims=True), v, v[0, 0])), 'map', 'has no pixel of segment'),
    ('gray', lambda m, i: change(m, lambda v: v[..., 0]), 'map', 'is not in color'),
    ('half the size', lambda m, i: change(m, lambda v: v[::2, ::2]), 'map', '32×32 pixels'),
    ('cut short', lambda m, i: cut(m), 'map', 'cannot be read'),
    ('text as image', lambda m, i: i.write_text('no image'), 'image', 'not an image'),
]


def test_every_planted_fault_of_panoptic_maps_is_found_by_file(tmp_path, capsys):
    root = write_scenes(tmp_path, unlabelled=0, train=len(PANOPTIC) + 1, val=1, size=(64, 64))
    code, said, error = check('downstream/panoptic_fpn_r18_coco', root, capsys)
    assert (code, error) == (0, []) and 'all of them can be used' in said[-1]
    images = sorted((root / 'images/train').iterdir())
    planted = []
    for image, (name, spoil, which, word) in zip(images, PANOPTIC, strict=False):
        label = root / f'annotations/panoptic_train/{image.stem}.png'
        spoil(label, image)
        planted.append((name, str(label if which == 'map' else image), word))
    code, said, error = check('downstream/panoptic_fpn_r18_coco', root, capsys)
    missed = [name for name, path, word in planted
              if not any(line.startswith(path) and word in line for line in said)]
    assert (code, missed) == (2, []), said + error
