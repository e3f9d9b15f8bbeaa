"""Labelled objects in text files of YOLO."""
from __future__ import annotations

from pathlib import Path

import pytest
from labelled_photos import (
    SIDES,
    boxes_in_pipeline,
    built,
    perfect_scores,
    reports,
    set_up,
    told,
    write_photo,
)

from densessl.cli import main
from densessl.errors import UsageError

WIDTH, HEIGHT = SIDES
BOX = [5, 6, 25, 18]              # the same, as left, top, right, bottom


def yolo(root: Path, layout: str) -> Path:
    """Boxes [5, 6, 25, 18] of a dog in two photos for training and one for validation."""
    line = f'1 {15 / WIDTH} {12 / HEIGHT} {20 / WIDTH} {12 / HEIGHT}\n'
    for split, number in (('train', 2), ('val', 1)):
        for at in range(number):
            images, labels = {
                'ultralytics': (f'images/{split}', f'labels/{split}'),
                'roboflow': (f'{"valid" if split == "val" else split}/images',
                             f'{"valid" if split == "val" else split}/labels'),
                'flat': ('.', '.')}[layout]
            write_photo(root / images / f'{split}{at}.jpg')
            (root / labels).mkdir(parents=True, exist_ok=True)
            (root / labels / f'{split}{at}.txt').write_text(line)
    if layout == 'flat':
        (root / 'classes.txt').write_text('cat\ndog\n')
    else:
        (root / 'data.yaml').write_text('train: ../train/images\nval: images/val\nnames:\n'
                                        '  0: cat\n  1: dog\n')
    return root


@pytest.mark.parametrize('layout', ['ultralytics', 'roboflow', 'flat'])
def test_yolo(tmp_path, layout):
    cfg, lines, target = set_up(yolo(tmp_path, layout))
    assert ': YOLO' in lines[0] and '(cat, dog)' in lines[0]
    train, val = target.inspect_data(cfg)
    assert (train.used_objects, val.used_objects) == (2, 1) and not train.findings
    assert boxes_in_pipeline(built(cfg, 'train')) == [[pytest.approx(BOX, abs=.1)]] * 2
    assert built(cfg, 'val').get_data_info(0)['instances'][0]['bbox_label'] == 1
    assert perfect_scores(cfg)['coco/bbox_mAP'] == 1


def test_images_whose_size_nobody_knows_are_left_out_and_all_named(tmp_path, capsys):
    """YOLO's boxes are shares of a size that is nowhere but in the image."""
    root = yolo(tmp_path, 'ultralytics')
    for name in ('empty', 'page'):
        (root / f'images/train/{name}.jpg').write_text('' if name == 'empty' else '<html></html>')
        (root / f'labels/train/{name}.txt').write_text('1 .5 .5 .1 .1\n' * 2)
    train, _ = reports(root)
    assert (train.images, train.objects, train.used_images, train.used_objects) == (4, 6, 2, 2)
    assert told(train) == {
        'cannot be read: the file is empty': ['empty.jpg'],
        'cannot be read: not an image, but a web page: the download failed': ['page.jpg'],
        'are of images that cannot be read': ['empty.jpg'] * 2 + ['page.jpg'] * 2}
    assert main(['check', 'downstream/retinanet_r18_coco', '--data-root', str(root)]) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith(str(root / 'images/train/'))] == [
        f'{root}/images/train/empty.jpg cannot be read: the file is empty',
        f'{root}/images/train/page.jpg cannot be read: not an image, but a web page: the download '
        f'failed']


def test_odd_lines_and_polygons_of_yolo(tmp_path):
    root = yolo(tmp_path, 'ultralytics')
    path = root / 'labels/train/train0.txt'
    path.write_text(path.read_text() + '1 .1 .1 .5 .1 .5 .5\n7 .5 .5 .1 .1\n0 50 50 9 9\n'
                                       '0 .5 .5 nan .1\ncat .5 .5 .1 .1\n0 .5 .5 .1 .1 .9\n')
    (root / 'labels/train/train1.txt').unlink()      # nothing in the image
    train, _ = reports(root)
    assert (train.objects, train.used_objects, train.used_images) == (7, 2, 1)
    assert told(train) == {
        'are of class 7, which has no name': ['train0.txt'],
        'have coordinates that are not shares of the image (0 … 1)': ['train0.txt'],
        'have a line that is neither "class cx cy w h" nor "class x1 y1 x2 y2 x3 y3 …"':
            ['train0.txt'] * 3}
    (root / 'data.yaml').write_text('names: 3\n')
    with pytest.raises(UsageError, match=r'data\.yaml must have names'):
        set_up(root)
    for text, words in (('names: {0: cat, 1: dog, 0: cow}', "the key '0' is given twice in line 1"),
                        ("names: {1: cat, '1': dog}", "the key '1' is given twice"),
                        ("names: {1: cat, '01': dog}", 'a number of its own'),
                        ('names: {}', 'must have names'), ('names: [a', 'cannot be read as YAML')):
        (root / 'data.yaml').write_text(text)
        with pytest.raises(UsageError, match=words):
            set_up(root)


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('data.yaml', 'names: {}', r'data\.yaml must have names: .* not {}'),
    ('data.yaml', 'names: []', r'data\.yaml must have names: .* not \[\]'),
    ('data.yaml', 'names: {0: cat, 3000000: dog}', r"from 0 to 65535, .* not .*'3000000': 'dog'"),
    ('data.yaml', f'names: {{{"9" * 500}: dog}}', 'from 0 to 65535'),
    ('data.yaml', 'names: {0: cat, 00: dog}', 'a number of its own'),
    ('data.yaml', 'names: [cat, [dog]]', r"not \['cat', \['dog'\]\]"),
    ('data.yaml', '[' * 3000, r'data\.yaml cannot be read as YAML'),
    ('classes.txt', '', r'classes\.txt is empty; it must have the name of class 0'),
    ('classes.txt', ' \n', r'classes\.txt is empty'),
    ('classes.txt', 'cat\n\ndog\n', r'classes\.txt has an empty line 2; it must'),
    ('classes.txt', 'c\0a\0', r'classes\.txt has NUL characters'),
])
def test_names_that_are_none_are_refused_by_their_file(tmp_path, name, content, words):
    root = yolo(tmp_path, 'ultralytics')
    (root / 'data.yaml').unlink()
    (root / name).write_text(content)
    with pytest.raises(UsageError, match=words) as error:
        set_up(root)
    assert '\n' not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(('name', 'content'), [
    ('data.yaml', 'names: [no, yes]\n'), ('data.yaml', 'names: {1: yes, 0: no}\n'),
    ('classes.txt', '\ufeffno\r\nyes\r\n\r\n')])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
def test_names_are_the_words_that_are_written(tmp_path, name, content, encoding):
    root = yolo(tmp_path, 'ultralytics')
    (root / 'data.yaml').unlink()
    (root / name).write_bytes(content.lstrip('\ufeff').encode(encoding))
    cfg, lines, target = set_up(root)
    assert '(no, yes)' in lines[0]
    assert target.inspect_data(cfg)[0].per_class == {'no': 0, 'yes': 2}


def test_numbers_without_names_are_bounded(tmp_path):
    root = yolo(tmp_path, 'ultralytics')
    (root / 'data.yaml').unlink()
    path = root / 'labels/train/train0.txt'
    path.write_text(path.read_text() + '3000000 .5 .5 .1 .1\n1e300 .5 .5 .1 .1\n')
    train, _ = reports(root)
    assert (train.objects, train.used_objects) == (4, 2)
    assert told(train) == {'are of class 3e+06, which has no name': ['train0.txt'],
                           'are of class 1e+300, which has no name': ['train0.txt']}
