"""torchvision's data sets, written in their own formats and read back as images in classes."""
import pickle

import numpy as np
import pytest
import torchvision
from PIL import Image

from densessl.errors import UsageError
from densessl.probes.class_images import find_class_images
from densessl_plugins.torchvision.sets import SETS, read_set


def test_every_name_is_one_of_torchvision():
    assert all(hasattr(torchvision.datasets, name) for name in SETS)


def write_cifar(root, monkeypatch):
    """CIFAR-10's files with two images each; their checksums are torchvision's to check."""
    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']):
        data = np.full((2, 3072), number, np.uint8)
        (folder / name).write_bytes(pickle.dumps({'data': data, 'labels': [number, 9]}))
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': list('abcdefghij')}))
    monkeypatch.setattr('torchvision.datasets.cifar.check_integrity', lambda *_: True)


def test_a_set_with_a_split_of_its_own(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch)
    train, test = find_class_images(tmp_path, 'torchvision.CIFAR10')
    assert (len(train), len(test)) == (10, 2) and train.names == list('abcdefghij')
    assert train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert train.read(4).shape == (32, 32, 3) and train.read(4).max() == 2
    assert test.read(0).max() == 5
    assert pickle.loads(pickle.dumps(test)).read(0).max() == 5     # spawned workers get it so


def test_a_set_without_a_split_is_divided(tmp_path):
    for name in ('AnnualCrop', 'Forest'):
        folder = tmp_path / 'eurosat' / '2750' / name
        folder.mkdir(parents=True)
        for i in range(5):
            Image.fromarray(np.full((64, 64, 3), i, np.uint8)).save(folder / f'{name}_{i}.jpg')
    train, val = find_class_images(tmp_path, 'torchvision.EuroSAT')
    assert (len(train), len(val)) == (8, 2) and np.bincount(val.labels).tolist() == [1, 1]


def test_validation_images_of_three_way_splits_count_as_training(tmp_path):
    for part in ('labels', 'images/banded'):
        (tmp_path / 'dtd' / 'dtd' / part).mkdir(parents=True)
    for i, split in enumerate(('train', 'val', 'test')):
        (tmp_path / f'dtd/dtd/labels/{split}1.txt').write_text(f'banded/{i}.jpg\n')
        Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)).save(
            tmp_path / f'dtd/dtd/images/banded/{i}.jpg')
    train, test = read_set('DTD', tmp_path)
    assert (len(train), len(test)) == (2, 1)
    assert [int(train.read(i).max()) for i in (0, 1)] == [0, 50] and test.read(0).max() == 100


@pytest.mark.parametrize('name', sorted(SETS))
def test_a_set_that_is_not_there_is_not_downloaded(name, tmp_path):
    with pytest.raises(UsageError, match=f'does not hold {name} as torchvision reads it') as error:
        read_set(name, tmp_path)
    assert '\n' not in str(error.value)
    assert not any(path.is_file() for path in tmp_path.rglob('*'))
