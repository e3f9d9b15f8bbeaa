"""Images in classes: splits that are functions of names, crops that are functions of positions."""
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.labels.class_labels import class_labels
from densessl.labels.pixel_labels import at_size
from densessl.pixels.scaled_size import scaled_size
from densessl.probes.class_images import (
    CentralCrops,
    RandomCrops,
    central_crop,
    epoch_order,
    find_class_images,
    held_out,
)
from densessl.shards.write import make_shards


def draw_classes(root, number=10, classes=('blue', 'red'), side=40):
    """Noise with a tint: trivially separable by color."""
    rng = np.random.default_rng(0)
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(number):
            image = rng.integers(0, 60, (side, side + i, 3), dtype=np.uint8)
            image[..., 2 - 2 * c] += 150
            Image.fromarray(image).save(root / name / f'{i}.png')
    return root


def test_a_folder_without_a_split_is_divided_by_names_alone(tmp_path):
    train, val = find_class_images(draw_classes(tmp_path / 'a'))
    assert (len(train), len(val)) == (16, 4) and train.names == ['blue', 'red']
    assert np.bincount(train.labels).tolist() == [8, 8]     # a fifth of each class
    assert not set(train.keys) & set(val.keys)
    again = find_class_images(draw_classes(tmp_path / 'elsewhere'))
    assert [list(part.keys) for part in again] == [list(part.keys) for part in (train, val)]
    for part in (train, val):       # image and label still belong together
        for i, label in enumerate(part.labels):
            assert part.read(i).reshape(-1, 3).mean(0).argmax() == 2 - 2 * label


def test_images_can_be_sent_to_spawned_workers(tmp_path):
    _, val = find_class_images(draw_classes(tmp_path))
    assert (pickle.loads(pickle.dumps(val)).read(0) == val.read(0)).all()


def test_tar_shards_are_the_folder_they_were_written_from(tmp_path):
    files = draw_classes(tmp_path / 'files')
    make_shards(find_images(files), tmp_path / 'shards', progress=False)
    for one, two in zip(find_class_images(files), find_class_images(tmp_path / 'shards'),
                        strict=True):
        assert one.keys == two.keys and (one.labels == two.labels).all()
        assert all((one.read(i) == two.read(i)).all() for i in range(len(one)))
    assert (pickle.loads(pickle.dumps(two)).read(0) == one.read(0)).all()


def test_one_more_image_moves_few_others(tmp_path):
    keys = [f'{i}.png' for i in range(100)]
    before = held_out(keys, np.zeros(100, int))
    after = held_out([*keys, 'new.png'], np.zeros(101, int))
    assert before.sum() == 20 and (before != after[:100]).sum() <= 1


def test_a_split_of_the_users_own_is_taken(tmp_path):
    draw_classes(tmp_path / 'train', 3)
    draw_classes(tmp_path / 'test', 2)
    train, val = find_class_images(tmp_path)
    assert (len(train), len(val)) == (6, 4)
    draw_classes(tmp_path / 'test2', 2, classes=('green', 'red'))
    (tmp_path / 'test').rename(tmp_path / 'aside')
    (tmp_path / 'test2').rename(tmp_path / 'val')
    with pytest.raises(UsageError, match=r"different class folders, such as 'blue'"):
        find_class_images(tmp_path)


@pytest.mark.parametrize(('first', 'second'), [
    ('training', 'testing'), ('Train', 'Val'), ('train', 'dev'), ('train', 'validate'),
    ('TRAIN', 'EVAL'), ('train', 'test')])
def test_splits_by_other_words_are_no_classes(tmp_path, first, second):
    for name in (first, second):
        draw_classes(tmp_path / name, 2, ('cat', 'dog', 'fox'))
    train, val = find_class_images(tmp_path)
    assert train.names == val.names == ['cat', 'dog', 'fox'] and (len(train), len(val)) == (6, 6)
    with pytest.raises(UsageError, match=rf'folders of splits \({min(first, second)}, .*not of'):
        class_labels(find_images(tmp_path))         # as pretraining with classes reads it


def test_splits_of_no_known_name_are_refused_or_said(tmp_path, capsys):
    for name in ('train2017', 'my_val'):
        draw_classes(tmp_path / 'a' / name, 2)
    with pytest.raises(UsageError, match=r'folders of splits \(.*name them train and val'):
        find_class_images(tmp_path / 'a')
    for name in ('sketches', 'photos'):
        draw_classes(tmp_path / 'b' / name, 2)
    assert find_class_images(tmp_path / 'b')[0].names == ['photos', 'sketches']
    assert 'are the folders photos, sketches … of' in (said := capsys.readouterr().err)
    assert 'not those that all of them hold (blue, red …)' in said
    draw_classes(tmp_path / 'c', 2, ('train', 'tram'))      # a class may be so called
    assert find_class_images(tmp_path / 'c')[0].names == ['train', 'tram']
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('first', 'second'), [
    ('images/train', 'labels/train'), ('leftImg8bit/val', 'gtFine/val'),
    ('JPEGImages', 'SegmentationClass'),
    ('VOCdevkit/VOC2012/JPEGImages', 'VOCdevkit/VOC2012/SegmentationClass')])
def test_label_maps_are_no_class_beside_their_images(first, second, tmp_path):
    draw_classes(tmp_path, 3, classes=(first, second))
    with pytest.raises(UsageError, match=r'has no folders of classes: .* --kind dense') as error:
        find_class_images(tmp_path)
    assert '\n' not in str(error.value)


def test_every_class_is_in_both_parts_or_it_is_said_why_not(tmp_path):
    chosen = held_out(['a', 'b', 'c', 'd', 'e'], np.array([0, 0, 1, 1, 1]))
    assert np.bincount(np.array([0, 0, 1, 1, 1])[chosen]).tolist() == [1, 1]
    with pytest.raises(UsageError, match=r'one image only \(c\)'):
        held_out(['a', 'b', 'c'], np.array([0, 0, 1]))
    with pytest.raises(UsageError, match='no folder'):
        find_class_images(tmp_path / 'nowhere')


def test_a_long_picture_is_not_resized_as_a_whole(monkeypatch):
    """One row of 40000 pixels fits into 200 bytes; at a short side of 256 it would be 8 GB."""
    resize = cv2.resize

    def checked(image, size, **options):
        assert size[0] * size[1] < 1 << 22
        return resize(image, size, **options)

    monkeypatch.setattr(cv2, 'resize', checked)
    row = np.zeros((1, 40000, 3), np.uint8)
    row[:, 20000:] = 255
    for image, half in ((row, np.s_[:, 112:]), (row.transpose(1, 0, 2), np.s_[112:])):
        crop = central_crop(image, 224)
        assert crop.shape == (224, 224, 3) and crop[half].min() >= 127 > crop[0, 0, 0] + 50
    label = np.zeros((1, 40000), np.uint8)
    resized, small = at_size(row, label, 64, 32, square=False)
    assert resized.shape == (3, 64, 16 * 64) and small.shape == (16, 16 * 16)
    assert scaled_size((40000, 1), 64, 32) == (1024, 64)
    assert scaled_size((375, 500), 512, 32) == (512, 672)


def test_a_central_crop_is_central():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 60:140] = 255
    crop = central_crop(image, 56)      # short side 64, so 0.64 of the image's size
    assert crop.shape == (56, 56, 3)
    columns = crop[28, :, 0] > 127
    assert np.flatnonzero(columns)[[0, -1]].tolist() == [2, 53]     # 51 of 128 columns, central
    assert central_crop(image[:10, :10], 32).shape == (32, 32, 3)


def test_random_crops_depend_on_the_position_alone(tmp_path):
    train, _ = find_class_images(draw_classes(tmp_path, 4))
    crops = RandomCrops(train, 24, seed=3)
    image, label = crops[1, 2]
    assert image.shape == (3, 24, 24) and label == train.labels[2]
    assert (RandomCrops(train, 24, seed=3)[1, 2][0] == image).all()
    assert (crops[2, 2][0] != image).any() and (RandomCrops(train, 24, 4)[1, 2][0] != image).any()
    assert CentralCrops(train, 24)[0].shape == (3, 24, 24)
    orders = [[i for _, i in epoch_order(6, 0, epoch)] for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1] and sorted(orders[1]) == list(range(6))
