"""A file of the labelled data that cannot be read: named in one line, wherever it is read."""
from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from disk_layouts import as_cityscapes, as_vocdevkit
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS
from torch.utils.data import DataLoader

from densessl.cli import _line, main
from densessl.demo.sample import write_scenes
from densessl.errors import RunFailed, UsageError
from densessl.finetune.sample_failures import NamedFailures, name_failures


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=0, train=2, val=1,
                        size=(64, 64))


def spoil(root, pattern):
    """Cut the files that match short, so that their header is right."""
    found = sorted(root.glob(pattern))
    assert found
    for path in found:
        content = path.read_bytes()
        path.write_bytes(content[:len(content) // 3] if path.suffix == '.png' else content[:20])


@pytest.mark.parametrize(('config', 'layout', 'pattern', 'workers'), [
    ('retinanet_r18_coco', None, 'images/train/*.jpg', 1),
    pytest.param('panoptic_fpn_r18_coco', None, 'annotations/panoptic_train/*.png', 0,
                 marks=pytest.mark.slow),
    pytest.param('faster_rcnn_c4_r18_voc', as_vocdevkit, 'VOC20*/JPEGImages/train*.jpg', 0,
                 marks=pytest.mark.slow),
    ('fcn_r18_cityscapes', as_cityscapes, 'gtFine/train/*/*.png', 1),
    ('fcn_r18_folder', None, 'images/val/*.png', 0),
])
def test_the_file_is_named_in_one_line(config, layout, pattern, workers, sample, tmp_path, capfd):
    root = layout(sample, tmp_path / 'data') if layout else shutil.copytree(
        sample, tmp_path / 'data')
    for path in (root / 'images/val').glob('*.jpg') if 'folder' in config else ():
        cv2.imwrite(str(path.with_suffix('.png')), cv2.imread(str(path)))
        path.unlink()
    spoil(root, pattern)
    assert main(['finetune', f'downstream/{config}', '--backbone', 'random', '--data-root',
                 str(root), '--work-dir', str(tmp_path / 'run'), '--no-check', '--cfg-options',
                 'train_cfg.max_iters=1', 'train_dataloader.batch_size=2',
                 f'train_dataloader.num_workers={workers}',
                 'train_dataloader.persistent_workers=False',
                 'val_dataloader.num_workers=0']) == 1
    line, = [one for one in capfd.readouterr().err.splitlines() if 'libpng' not in one]
    assert line.startswith('densessl finetune: cannot load ')   # without the pass before
    assert any(str(path) in line for path in root.glob(pattern))


@TRANSFORMS.register_module(name='Fails', force=True)
class Fails:
    def __init__(self, error):
        self.error = error

    def __call__(self, data):
        raise self.error


class Named(BaseDataset):
    def load_data_list(self):
        return [{'img_path': self.data_root, 'seg_map_path': None}]


DATASETS.register_module(name='Named', module=Named, force=True)


def wrapped(path, error):
    leaf = dict(type='Named', data_root=str(path), serialize_data=False,
                pipeline=[dict(type='Fails', error=error)])
    built = DATASETS.build(dict(type='ConcatDataset', datasets=[
        dict(type='RepeatDataset', times=2, dataset=leaf)]))
    name_failures(built)
    return built


@pytest.mark.parametrize('workers', [0, 1])
def test_what_no_file_explains_is_told_with_the_file(workers, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    data = wrapped(tmp_path / 'a.png', KeyError('two\nlines'))
    with pytest.raises(RunFailed) as caught:
        next(iter(DataLoader(data, num_workers=workers)))
    assert _line(caught.value) == (f'cannot make a sample of {tmp_path / "a.png"}: KeyError: '
                                   f"'two\\nlines'")


def test_own_errors_stay_what_they_are_and_files_elsewhere_are_not_opened():
    with pytest.raises(UsageError, match=r'^mend the config$'):
        wrapped('gone.png', UsageError('mend the config'))[0]
    with pytest.raises(RunFailed, match=r'cannot load gone\.png: No such file'):
        wrapped('gone.png', ValueError())[0]
    remote = NamedFailures([Fails(ValueError('x\n y'))])
    with pytest.raises(RunFailed, match=r'sample of s3://a\.png and b\.npy: ValueError: x y$'):
        remote({'img_path': 's3://a.png', 'seg_map_path': 'b.npy', 'img_id': 1})


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_label_map_of_another_size_is_named_with_its_image(split, sample, tmp_path, capsys):
    root = shutil.copytree(sample, tmp_path / 'data')
    label = sorted((root / 'labels' / split).glob('*.png'))[0]
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[:, :40])
    assert main(['finetune', 'downstream/fcn_r18_folder', '--backbone', 'random', '--data-root',
                 str(root), '--work-dir', str(tmp_path / 'run'), '--no-check', '--cfg-options',
                 'train_cfg.max_iters=2', 'train_dataloader.batch_size=2',
                 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']) == 1
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'densessl finetune: {label} has 40×64 pixels, but its image ')
    assert 'is displayed at 64×64; densessl check finds all such files' in line
