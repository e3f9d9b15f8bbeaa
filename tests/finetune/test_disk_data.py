"""Each twin on data as it lies on a disk, by one command: key table, scores, and then pictures."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from disk_layouts import as_cityscapes, as_vocdevkit

from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.images.find import find_images
from densessl.shards.write import make_shards


@pytest.fixture(scope='session')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=0, train=4, val=2,
                        size=(96, 96))


def laid_out(layout, sample, folder):
    return {'vocdevkit': as_vocdevkit, 'cityscapes': as_cityscapes}[layout](sample, folder) \
        if layout != 'sample' else sample


TWINS = {   # config: layout of its data, the scores it prints
    'mask_rcnn_r18_coco': ('sample', ['box AP', 'mask AP']),
    'panoptic_fpn_r18_coco': ('sample', ['PQ']),
    'faster_rcnn_c4_r18_voc': ('vocdevkit', ['AP50', 'AP']),
    'fcn_r18_voc12aug': ('vocdevkit', ['mIoU']),
    'fcn_r18_cityscapes': ('cityscapes', ['mIoU']),
}


@pytest.fixture(scope='session')
def finetuned(sample, backbone18, tmp_path_factory):
    """config → (work folder, what the command printed); each is run once."""
    done = {}

    def run(config, capsys):
        if config not in done:
            root = laid_out(TWINS[config][0], sample, tmp_path_factory.mktemp('data'))
            folder = tmp_path_factory.mktemp('run') / config
            code = main(['finetune', f'downstream/{config}', '--backbone', str(backbone18),
                         '--data-root', str(root), '--work-dir', str(folder), '--cfg-options',
                         'train_cfg.max_iters=2', 'train_dataloader.batch_size=2',
                         'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0'])
            assert code == 0
            done[config] = folder, capsys.readouterr().out
        return done[config]
    return run


@pytest.mark.parametrize('config', TWINS)
def test_one_command_gives_key_table_and_scores(config, finetuned, capsys):
    folder, said = finetuned(config, capsys)
    record = json.loads((folder / 'scores.json').read_text())
    assert all(0 <= record['scores'][name] <= 100 for name in TWINS[config][1])
    assert record['handoff']['keys'] == {'loaded': 120, 'missing': 0, 'added': 0, 'unexpected': 0,
                                         'mismatched': 0, 'altered': 0}
    assert max(record['handoff']['features']['differences']) < 1e-5
    assert 'weights: 120 of 120 keys loaded' in said and 'function check' in said


@pytest.mark.parametrize('config', ['mask_rcnn_r18_coco', 'panoptic_fpn_r18_coco',
                                    'fcn_r18_cityscapes'])
def test_predictions_are_drawn_on_any_folder(config, finetuned, sample, tmp_path, capsys):
    folder, _ = finetuned(config, capsys)
    images, out = tmp_path / 'in', tmp_path / 'out'
    shutil.copytree(sample / 'images' / 'val', images / 'deep')
    (images / 'broken.jpg').write_bytes(b'no image')
    assert main(['predict', str(folder), str(images), '--out', str(out), '--score', '0']) == 0
    said = capsys.readouterr()
    assert '2 pictures' in said.out and 'broken.jpg: not an image' in said.err
    for path in (images / 'deep').iterdir():
        picture = cv2.imread(str(out / 'deep' / f'{path.stem}.png'))
        original = cv2.imread(str(path))
        assert picture.shape[1] >= original.shape[1]
        small = cv2.resize(picture[:picture.shape[1]], original.shape[1::-1])
        assert np.abs(small.astype(int) - original).mean() > 1, 'nothing was drawn'
    make_shards(find_images(images), tmp_path / 'tars', progress=False)
    assert main(['predict', str(folder), str(tmp_path / 'tars'), '--out', str(tmp_path / 'again'),
                 '--score', '0']) == 0
    assert '000000.tar: broken.jpg: not an image' in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.png')}
    for path in before:
        again = tmp_path / 'again' / path.relative_to(out)
        assert again.read_bytes() == path.read_bytes()
    assert main(['predict', str(folder), str(images), '--out', str(out)]) == 2
    assert 'add --overwrite' in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*.png')}


@pytest.mark.slow
@pytest.mark.parametrize(('config', 'library', 'metric'), [
    ('mask_rcnn_r18_coco', 'mmdet', 'coco/bbox_mAP'),
    ('panoptic_fpn_r18_coco', 'mmdet', 'coco_panoptic/PQ'),
    ('faster_rcnn_c4_r18_voc', 'mmdet', 'pascal_voc/AP50'),
    ('fcn_r18_cityscapes', 'mmseg', 'mIoU')])
def test_the_librarys_own_tool_goes_on_with_the_written_config(config, library, metric, finetuned,
                                                               capsys, tmp_path):
    folder, _ = finetuned(config, capsys)
    tool = Path(find_spec(library).origin).parent / '.mim/tools/test.py'
    if not tool.is_file():
        pytest.skip(f'{library} is installed without its tools')
    done = subprocess.run(
        [sys.executable, '-m', 'densessl.transfer.mmcv_ops', str(tool),
         str(folder / f'{config}.py'), str(folder / 'iter_2.pth'), '--work-dir', str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((folder / 'scores.json').read_text())['metrics']
    found = [json.loads(path.read_text()) for path in tmp_path.glob('*/*.json')]
    assert [round(one[metric], 4) for one in found] == [metrics[metric]]


@pytest.mark.parametrize('arguments, message', [
    (['nowhere', '{images}', '--out', 'out'], 'no folder or checkpoint nowhere'),
    (['{images}', '{images}', '--out', 'out'], 'holds no checkpoint'),
    (['nowhere', '{images}', '--out', 'out', '--score', '2'], '--score must be from 0 to 1'),
    (['nowhere', '{images}', '--out', '{images}'], 'would lie among the images'),
    (['nowhere', '{images}', '--out', '{images}/out'], 'would lie among the images'),
])
def test_bad_input_gets_one_line(arguments, message, sample, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = sample / 'images' / 'val'
    assert main(['predict', *(one.format(images=images) for one in arguments)]) == 2
    error, = capsys.readouterr().err.strip().splitlines()
    assert message in error
    assert not (tmp_path / 'out').exists() and not (images / 'out').exists()


def test_what_a_layout_lacks_is_listed(sample, backbone18, tmp_path, capsys):
    for layout, config, gone in (
            ('vocdevkit', 'faster_rcnn_c4_r18_voc', 'VOC2007/ImageSets/Main/test.txt'),
            ('vocdevkit', 'fcn_r18_voc12aug', 'VOC2012/ImageSets/Segmentation/val.txt'),
            ('cityscapes', 'fcn_r18_cityscapes', 'gtFine/val')):
        root = laid_out(layout, sample, tmp_path / config)
        shutil.rmtree(root / gone) if (root / gone).is_dir() else (root / gone).unlink()
        assert main(['finetune', f'downstream/{config}', '--backbone', str(backbone18),
                     '--data-root', str(root), '--work-dir', str(tmp_path / 'run')]) == 2
        assert gone.rpartition('VOC')[2].partition('/')[2][-20:] in capsys.readouterr().err
        assert not (tmp_path / 'run').exists()
