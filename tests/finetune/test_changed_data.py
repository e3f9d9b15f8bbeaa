"""The digest of labelled data: the same wherever they lie, another one when any of them changed."""
import json
import os
import shutil

import pytest
from PIL import Image
from small_runs import draw_label_folder

from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.labelled_data import data_digest, inspect_labelled


def digest(root, config):
    cfg, target = read_downstream_config(config)
    target.set_data(cfg, str(root))
    return data_digest(inspect_labelled(cfg, target)[0])


def with_one_pixel(path, value):
    image = Image.open(path)
    image.putpixel((20, 30), value)
    image.save(path)


def take_away(*paths):
    for path in paths:
        path.unlink()


@pytest.mark.parametrize('change', [
    lambda root: take_away(root / 'images/val/0.png', root / 'labels/val/0.png'),
    lambda root: [shutil.copyfile(root / kind / 'train/0.png', root / kind / 'train/x.png')
                  for kind in ('images', 'labels')],
    lambda root: with_one_pixel(root / 'labels/train/3.png', 1),
    lambda root: with_one_pixel(root / 'labels/val/1.png', 1),
    lambda root: (root / 'classes.json').write_text('{"classes": ["ground", "blue", "red"]}'),
])
def test_label_maps(tmp_path, change):
    root, config = draw_label_folder(tmp_path / 'one'), 'downstream/fcn_r18_folder'
    before = digest(root, config)
    moved = shutil.copytree(root, tmp_path / 'two', copy_function=shutil.copyfile)
    assert digest(moved, config) == before
    change(root)
    assert digest(root, config) != before


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_class_corrected_in_a_file_of_the_same_size(tmp_path, split):
    for part in ('train', 'val'):
        for kind in ('images', 'labels'):
            (tmp_path / 'yolo' / kind / part).mkdir(parents=True)
        for i in range(2):
            Image.new('RGB', (64, 48)).save(tmp_path / 'yolo/images' / part / f'{part}{i}.jpg')
            (tmp_path / 'yolo/labels' / part / f'{part}{i}.txt').write_text('0 .5 .5 .5 .5\n'
                                                                         '1 .4 .4 .2 .2\n')
    config, names = 'downstream/retinanet_r18_coco', tmp_path / 'yolo/data.yaml'
    names.write_text('names: [dog, cat]')
    swapped = digest(tmp_path / 'yolo', config)
    names.write_text('names: [cat, dog]')
    before = digest(tmp_path / 'yolo', config)
    assert before != swapped
    moved = shutil.copytree(tmp_path / 'yolo', tmp_path / 'two', copy_function=shutil.copyfile)
    assert digest(moved, config) == before
    path = tmp_path / 'yolo/labels' / split / f'{split}0.txt'
    size = path.stat().st_size
    path.write_text('1 .5 .5 .5 .5\n0 .4 .4 .2 .2\n')      # as many of each class
    assert path.stat().st_size == size and digest(tmp_path / 'yolo', config) != before


def test_a_box_moved_in_a_json(tmp_path):
    for part in ('train', 'val'):
        (tmp_path / 'images' / part).mkdir(parents=True)
        (tmp_path / 'annotations').mkdir(exist_ok=True)
        Image.new('RGB', (64, 48)).save(tmp_path / 'images' / part / 'a.jpg')
        (tmp_path / 'annotations' / f'instances_{part}.json').write_text(json.dumps({
            'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 64, 'height': 48}],
            'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [5, 5, 20, 20],
                             'area': 400, 'iscrowd': 0}],
            'categories': [{'id': 1, 'name': 'cat'}]}))
    config, path = 'downstream/retinanet_r18_coco', tmp_path / 'annotations/instances_val.json'
    before = digest(tmp_path, config)
    os.utime(path, (1, 1))
    assert digest(tmp_path, config) == before
    path.write_text(path.read_text().replace('[5, 5, 20', '[6, 5, 20'))
    assert digest(tmp_path, config) != before
