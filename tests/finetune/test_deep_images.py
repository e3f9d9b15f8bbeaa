"""12-bit images from pretraining to pictures: one range, kept on the way."""
from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tifffile
import torch
from odd_files import COLORS, GRAY12, by_pillow, exif, gray, tiff
from PIL import Image

from densessl.benchmark.plan import Benchmark, Run
from densessl.cli import main
from densessl.config import load_config
from densessl.errors import RunFailed
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.image_loading import (
    LoadDisplayedImage,
    measured,
    read_as_displayed,
    rule_for,
    rule_in,
)
from densessl.finetune.sample_failures import NamedFailures
from densessl.pixels.decode import UnreadableImage, read_image
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.transfer.export import export_backbone


def load(path, **options):
    return LoadDisplayedImage(**options)({'img_path': str(path)})


def test_ordinary_images_are_loaded_as_the_libraries_do(tmp_path):
    from mmcv.transforms import LoadImageFromFile
    for name, data in (('a.jpg', by_pillow(COLORS, 'JPEG', exif=exif(3, 1, b'\x06'))),
                       ('b.png', by_pillow(COLORS, 'PNG')), ('c.png', by_pillow(gray(GRAY12 >> 4
                        ).astype(np.uint8), 'PNG'))):
        (tmp_path / name).write_bytes(data)
        theirs = LoadImageFromFile().transform({'img_path': str(tmp_path / name)})
        ours = load(tmp_path / name)
        assert np.array_equal(ours['img'], theirs['img']) and ours['img'].flags.c_contiguous
        assert {**ours, 'img': 0} == {**theirs, 'img': 0}
    assert load(tmp_path / 'a.jpg', to_float32=True)['img'].dtype == np.float32


def test_odd_images_are_loaded_as_they_are_displayed(tmp_path):
    (tmp_path / 'a.tif').write_bytes(tiff(GRAY12, photometric='minisblack'))
    (tmp_path / 'b.jpg').write_bytes(by_pillow(COLORS, 'JPEG', exif=exif(3, 1, b'\x09'))[:-20])
    (tmp_path / 'c.jpg').write_bytes(b'no image')
    rule = {'value_range': (0, 4095)}
    assert np.array_equal(load(tmp_path / 'a.tif', **rule)['img'],
                          read_image(tmp_path / 'a.tif', PixelRule((0, 4095)))[..., ::-1])
    assert load(tmp_path / 'b.jpg')['img'].shape == (20, 30, 3)
    for name, reason in (('c.jpg', 'not an image'), ('gone.jpg', 'No such file')):
        with pytest.raises(UnreadableImage, match=f'{name}: {reason}'):
            load(tmp_path / name)
        assert load(tmp_path / name, ignore_empty=True) is None
        with pytest.raises(RunFailed, match=f'cannot load .*{name}: {reason}.*; mend the file'):
            NamedFailures([LoadDisplayedImage()])({'img_path': str(tmp_path / name)})


@pytest.mark.parametrize('config', ['fcn_r18_folder', 'mask_rcnn_r18_coco', 'fcos_r50_fpn_coco',
                                    'faster_rcnn_c4_r18_voc', 'panoptic_fpn_r18_coco'])
def test_every_pipeline_reads_by_the_rule(config):
    cfg, _ = read_downstream_config(f'downstream/{config}')
    rule = PixelRule((10, 4000), (3, 2, 1))
    assert rule_in(cfg) == PLAIN
    for _ in range(2):      # once more, as a config that was written out
        assert read_as_displayed(cfg, rule) == [f'images of more than 8 bits are read by {rule}']
        text = json.dumps(cfg.to_dict(), default=str)
        assert 'LoadImageFromFile' not in json.dumps(
            [cfg.to_dict()[f'{split}_dataloader'] for split in ('train', 'val', 'test')])
        assert text.count('LoadDisplayedImage') >= 3 and rule_in(cfg) == rule
    assert read_as_displayed(cfg, PLAIN) == [] and rule_in(cfg) == PLAIN


def test_a_loader_of_its_own_stays():
    cfg, _ = read_downstream_config('downstream/fcn_r18_folder', {
        'train_dataloader.dataset.pipeline.0.color_type': 'unchanged'})
    line, = read_as_displayed(cfg, PLAIN)
    assert "'color_type': 'unchanged'" in line
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'LoadImageFromFile'
    assert cfg.val_dataloader.dataset.pipeline[0].type == 'LoadDisplayedImage'


def test_what_was_asked_for_outweighs_the_provenance():
    meta = {'value_range': [0, 4095], 'bands': [3, 2, 1], 'method': 'x'}
    assert rule_for(meta, None) == PixelRule((0, 4095), (3, 2, 1))
    assert rule_for(meta, {'value_range': 'minmax'}) == PixelRule('minmax', (3, 2, 1))
    assert rule_for(None, None) == PLAIN
    with pytest.raises(ValueError, match='provenance of the backbone: value_range must be'):
        rule_for({'value_range': 'os.system'}, None)


def test_all_runs_of_a_benchmark_see_the_same_images(make_checkpoint, tmp_path):
    cfg = {'type': 'torchvision.resnet18'}
    files = {name: str(export_backbone(make_checkpoint(cfg, **about)).path)
             for name, about in (('plain', {}), ('deep', {'value_range': [0, 4095]}))}
    for asked, words in (({}, ['--value-range', '0', '4095']),
                         ({'value_range': 'minmax', 'bands': [3, 2, 1]},
                          ['--value-range', 'minmax', '--bands', '3', '2', '1'])):
        benchmark = Benchmark('downstream/fcn_r18_folder', files, [1.0], tmp_path, pixels=asked)
        for name in ('random', 'plain', 'deep'):
            command = benchmark.finetuning(Run(name, 1.0, 1.0, 0), {}).command()
            start = command.index('--value-range')
            assert command[start:start + len(words)] == words


class Listed(list):
    def get_data_info(self, i):
        return {'img_path': self[i]}


def test_the_range_is_that_of_the_training_images(tmp_path):
    for i in range(4):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.full((5, 5), 10 + i, np.uint16))
    paths = [str(tmp_path / f'{i}.tif') for i in range(4)]
    sets = [Listed(paths[:2]), Listed(paths[2:3])]
    assert measured(PixelRule('minmax'), sets, say=False) == PixelRule((10, 12))
    assert measured(PixelRule('minmax'), [Listed(['s3://bucket/a.tif'])]) == PixelRule('minmax')


@pytest.fixture(scope='module')
def twelve(tmp_path_factory):
    """Labelled 12-bit TIFFs; their images alone are unlabelled ones."""
    root = tmp_path_factory.mktemp('twelve')
    rng = np.random.default_rng(0)
    for split, number in (('train', 4), ('val', 2)):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            label = np.zeros((48, 48), np.uint8)
            label[8:30, 8:30] = 1
            values = rng.integers(40, 1500, (48, 48, 3)).astype(np.uint16)
            values[label == 1, 0] += 2000
            tifffile.imwrite(root / 'images' / split / f'{i}.tif', values, photometric='rgb')
            cv2.imwrite(str(root / 'labels' / split / f'{i}.png'), label)
    return root


def test_from_pretraining_to_pictures(twelve, tmp_path, tiny, capsys):
    run = ['train', 'small/simclr_r18', '--data', str(twelve / 'images' / 'train'), '--work-dir',
           str(tmp_path / 'run'), '--epochs', '1', '--cfg-options', 'views.0.size=64',
           'views.1.size=64', 'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0']
    assert main([*run, 'value_range=minmax']) == 0
    values = np.concatenate([tifffile.imread(path) for path in (twelve / 'images/train').iterdir()])
    rule = PixelRule((int(values.min()), int(values.max())))
    checkpoint, = (tmp_path / 'run').glob('iter_*.pth')
    meta = torch.load(checkpoint, weights_only=True)['meta']
    assert PixelRule.of(meta['densessl']) == rule
    assert meta['identity']['value_range'] == str(list(rule.value_range))
    assert main(['export', str(checkpoint)]) == 0
    backbone = tmp_path / 'run' / 'backbone.pth'
    assert PixelRule.of(torch.load(backbone, weights_only=True)['meta']) == rule
    capsys.readouterr()
    options = [f'{key}={value}' for key, value in {**tiny, 'train_cfg.max_iters': 1}.items()]
    finetune = ['finetune', 'downstream/fcn_r18_folder', '--data-root', str(twelve), '--work-dir',
                str(tmp_path / 'own'), '--backbone', str(backbone), '--cfg-options', *options]
    assert main(finetune) == 0
    assert f'images of more than 8 bits are read by {rule}' in capsys.readouterr().out
    assert rule_in(load_config(str(tmp_path / 'own' / 'fcn_r18_folder.py'))) == rule
    assert main([*finetune, '--value-range', '0', '99']) == 2
    assert 'run of other settings: pixels' in capsys.readouterr().err
    assert main(['predict', str(tmp_path / 'own'), str(twelve / 'images' / 'val'), '--out',
                 str(tmp_path / 'pictures')]) == 0
    drawn = np.asarray(Image.open(tmp_path / 'pictures' / '0.png'))
    assert drawn.mean() > 40        # read by the full range it is below 16
    assert main(['probe', str(backbone), '--data', str(twelve), '--size', '48',
                 '--workers', '0', '--out', str(tmp_path / 'probe.json')]) == 0
    assert json.loads((tmp_path / 'probe.json').read_text())['probe']['value_range'] == list(
        rule.value_range)
    assert main([*run, 'value_range=(0, 4095)', '--resume']) == 2
    assert 'value_range' in capsys.readouterr().err
