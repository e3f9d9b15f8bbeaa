"""Label maps drawn from annotations in COCO's format."""
from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from densessl.cli import main
from densessl.errors import UsageError
from densessl.labels.coco_pixels import draw
from densessl.labels.from_coco import draw_label_maps
from densessl.labels.label_ids import IGNORED
from densessl.labels.pixel_labels import find_pixel_labels

HEIGHT, WIDTH = 20, 30


def square(left, top, side):
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


@pytest.fixture
def data(tmp_path):
    """A car with a person on it, a dog of another category, and a crowd, as RLE."""
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    crowd[15:, 20:] = 1
    counts = rle.encode(crowd)['counts'].decode()
    objects = [(1, square(4, 2, 4), 0), (3, square(2, 0, 12), 0), (18, square(20, 2, 6), 0),
               (1, {'size': [HEIGHT, WIDTH], 'counts': counts}, 1)]
    for split in ('train', 'val'):
        (tmp_path / f'{split}2017').mkdir()
        cv2.imwrite(str(tmp_path / f'{split}2017' / f'{split}.jpg'), np.zeros((HEIGHT, WIDTH, 3)))
        (tmp_path / 'annotations').mkdir(exist_ok=True)
        (tmp_path / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps({
            'images': [{'id': 7, 'file_name': f'{split}.jpg', 'height': HEIGHT, 'width': WIDTH}],
            'categories': [{'id': 1, 'name': 'person'}, {'id': 3, 'name': 'car'},
                           {'id': 18, 'name': 'dog'}],
            'annotations': [{'image_id': 7, 'category_id': category, 'segmentation': shape,
                             'iscrowd': crowd} for category, shape, crowd in objects]}))
    return tmp_path


def drawn(out):
    return cv2.imread(str(out / 'labels' / 'val' / 'val.png'), cv2.IMREAD_UNCHANGED)


def test_small_objects_lie_over_large_ones_and_crowds_have_no_label(data, tmp_path):
    out = tmp_path / 'out'
    assert main(['make_label_maps', str(data), str(out), '--classes', 'car', 'person']) == 0
    labels = drawn(out)
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[15:, 20:] = IGNORED
    wanted[0:12, 2:14] = 1
    wanted[2:6, 4:8] = 2
    assert labels.dtype == np.uint8 and np.array_equal(labels, wanted)     # the dog: background
    found = find_pixel_labels(out)
    assert found.names == ['background', 'car', 'person']
    assert [len(found.pairs[split]) for split in ('train', 'val')] == [1, 1]
    assert main(['make_label_maps', str(data), str(out)]) == 0      # all, over what is there
    assert sorted(set(drawn(out).ravel())) == [0, 1, 2, 3, IGNORED]
    assert json.loads((out / 'classes.json').read_text())['classes'] == [
        'background', 'person', 'car', 'dog']


def test_both_splits_have_the_ids_of_train_whatever_their_order(data, tmp_path):
    path = data / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    content['categories'] = content['categories'][::-1]
    path.write_text(json.dumps(content))
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 0
    assert drawn(tmp_path / 'out')[1, 13] == 2 and drawn(tmp_path / 'out')[3, 5] == 1


def test_categories_of_one_name_are_one_class(data, tmp_path):
    for path in (data / 'annotations').iterdir():
        content = json.loads(path.read_text())
        content['categories'][1]['name'] = 'person'
        path.write_text(json.dumps(content))
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 0
    assert drawn(tmp_path / 'out')[1, 13] == 1 == drawn(tmp_path / 'out')[3, 5]


@pytest.mark.parametrize('seed', range(20))
def test_compressed_run_lengths_are_those_of_cocos_code(seed):
    rng = np.random.default_rng(seed)
    mask = np.asfortranarray(rng.random((37, 53)) < rng.choice([0.02, 0.5, 0.98]), np.uint8)
    if seed % 3 == 0:
        mask[:, 5:40] = seed % 2
    text = rle.encode(mask)['counts'].decode()
    shape = {'class': 1, 'crowd': False, 'shape': {'size': [37, 53], 'counts': text}}
    assert np.array_equal(draw(37, 53, [shape], 'x.json'), mask)


def test_a_flag_that_is_none_is_refused(data, tmp_path, capsys):
    """The text "0" is true: every object had been a crowd, without label."""
    path = data / 'annotations' / 'instances_val2017.json'
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": "0"'))
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 2
    said = capsys.readouterr().err
    assert str(path) in said and "iscrowd must be 0 or 1, not '0'" in said
    assert not (tmp_path / 'out' / 'labels').exists()


def list_images(data, names, written=str):
    """Have both splits list ``names``, each with the objects of the one image there was."""
    for split in ('train', 'val'):
        path = data / 'annotations' / f'instances_{split}2017.json'
        content = json.loads(path.read_text())
        photo = data / f'{split}2017' / f'{split}.jpg'
        for name in names:
            (photo.parent / name).parent.mkdir(exist_ok=True)
            shutil.copy(photo, photo.parent / name)
        content['images'] = [{**content['images'][0], 'id': i, 'file_name': written(name)}
                             for i, name in enumerate(names)]
        content['annotations'] = [{**one, 'image_id': i} for i in range(len(names))
                                  for one in content['annotations']]
        path.write_text(json.dumps(content))


def test_images_keep_their_subfolders(data, tmp_path):
    list_images(data, ['x/1.jpg', 'x-1.jpg'])
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 0
    pairs = find_pixel_labels(tmp_path / 'out').pairs['val']
    assert [image.relative_to(tmp_path / 'out/images/val').as_posix() for image, _ in pairs] == [
        'x/1.jpg', 'x-1.jpg'] and all(label.is_file() for _, label in pairs)


def test_two_images_of_one_label_map_are_refused(data, tmp_path, capsys):
    list_images(data, ['x/a.jpg', 'x/b.jpg', 'x/a.png'])
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 2
    assert capsys.readouterr().err == (
        f'densessl make_label_maps: a.jpg and a.png in {data}/train2017/x would share the label '
        f'map a.png; rename one of them or leave it out\n')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('written', ['./{}', 'x/../{}', './/{}'])
def test_names_are_the_same_however_written(data, written, tmp_path, capsys):
    list_images(data, ['a.jpg', 'b.jpg'], lambda name: written.format(name) if name == 'a.jpg'
                else name)
    (data / 'val2017/x').mkdir()
    (data / 'train2017/x').mkdir()
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 0
    assert 'val: 2 images with label maps' in capsys.readouterr().out
    for name in 'ab':
        assert set(cv2.imread(str(tmp_path / f'out/labels/val/{name}.png'), -1).ravel()) == {
            0, 1, 2, 3, IGNORED}


def test_an_image_that_is_listed_twice_has_the_objects_of_both(data, tmp_path):
    list_images(data, ['a.jpg', 'b.jpg'], lambda name: 'a.jpg' if name == 'a.jpg' else './a.jpg')
    for path in (data / 'annotations').iterdir():
        content = json.loads(path.read_text())
        content['annotations'] = [one for one in content['annotations']
                                  if one['image_id'] == (one['category_id'] == 3)]
        path.write_text(json.dumps(content))
    assert main(['make_label_maps', str(data), str(tmp_path / 'out')]) == 0
    assert set(cv2.imread(str(tmp_path / 'out/labels/val/a.png'), -1).ravel()) == {
        0, 1, 2, 3, IGNORED}


def contents(root):
    return {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_images_that_are_in_out_themselves_stay(data, capsys):
    for split in ('train', 'val'):
        (data / 'images').mkdir(exist_ok=True)
        (data / f'{split}2017').rename(data / 'images' / split)
    before = contents(data)
    assert main(['make_label_maps', str(data), str(data)]) == 2
    assert 'images/train/train.jpg is there already' in capsys.readouterr().err
    assert contents(data) == before and not any(path.is_symlink() for path in data.rglob('*'))


@pytest.mark.parametrize('taken', [
    'images/train/train.jpg', 'labels/val/val.png', 'classes.json'])
def test_files_of_others_are_not_replaced(data, taken, tmp_path, capsys):
    out = tmp_path / 'out'
    (out / taken).parent.mkdir(parents=True)
    (out / taken).write_text('{"classes": ["mine", "own"]}')
    before = contents(tmp_path)
    assert main(['make_label_maps', str(data), str(out)]) == 2
    assert capsys.readouterr().err == (
        f'densessl make_label_maps: {out / taken} is there already and is not known to be '
        f'of densessl make_label_maps (1 in all): remove it if it is, or name another folder for '
        f'the label maps\n')
    assert contents(tmp_path) == before


def test_a_folder_that_was_left_half_drawn_is_not_read(data, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    assert main(['make_label_maps', str(data), str(out)]) == 0
    with monkeypatch.context() as patch:
        patch.delattr('densessl.pixels.label_png.encode')
        with pytest.raises(AttributeError):
            draw_label_maps(data, out, ['dog'])
    with pytest.raises(UsageError, match=r'classes\.json must be'):
        find_pixel_labels(out)
    assert main(['make_label_maps', str(data), str(out)]) == 0      # it is this command's own
    assert len(find_pixel_labels(out).names) == 4


def test_a_photo_put_in_place_of_a_link_stays(data, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['make_label_maps', str(data), str(out)]) == 0
    link = out / 'images/val/val.jpg'
    link.unlink()
    link.write_bytes(b'a photo')
    before = contents(out)
    assert main(['make_label_maps', str(data), str(out)]) == 2
    assert str(link) in capsys.readouterr().err and contents(out) == before


def test_what_is_missing_is_named(data, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['make_label_maps', str(data), str(out), '--classes', 'cra']) == 2
    err = capsys.readouterr().err
    assert "unknown category 'cra' in " in err and (
        "instances_train2017.json (did you mean 'car'?); known: car, dog, person") in err
    (data / 'val2017' / 'val.jpg').unlink()
    assert main(['make_label_maps', str(data), str(out)]) == 2
    assert 'val.jpg' in capsys.readouterr().err
    shutil.rmtree(data / 'annotations')
    assert main(['make_label_maps', str(data), str(out)]) == 2
    assert 'has no annotations/instances_train' in capsys.readouterr().err
