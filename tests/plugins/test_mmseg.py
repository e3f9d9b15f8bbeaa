"""mmseg: folders of label maps, Cityscapes' layout, the published FCN and its CPU-sized twin."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from densessl.backbones import build_backbone, feature_stages
from densessl.cli import main
from densessl.errors import UsageError
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.weights import apply_recipe
from densessl.labels.pixel_labels import find_pixel_labels
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.translate import counterpart, translate

TWIN = 'downstream/fcn_r18_folder'
CAMVID = Path(__file__).parents[3] / 'shared/data/camvid'


@pytest.fixture
def folder(tmp_path):
    """Four images, ids 0, 3 and 11; two names below a subfolder; two kinds of image files."""
    for split, names in (('train', ('a.jpg', 'sub/b.png')), ('val', ('c.JPG', 'd.png'))):
        for name in names:
            image = tmp_path / 'images' / split / name
            label = (tmp_path / 'labels' / split / name).with_suffix('.png')
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(image)
            ids = np.zeros((20, 30), np.uint8)
            ids[:5], ids[5:9] = 3, 11
            Image.fromarray(ids).save(label)
    return tmp_path


def read(root, options=None):
    cfg, target = read_downstream_config(TWIN, options)
    return cfg, target.set_data(cfg, str(root))


def dataset(cfg, split='train'):
    from mmengine.registry import DefaultScope
    from mmseg.registry import DATASETS
    DefaultScope.get_instance('read', scope_name='mmseg')   # as the Runner does
    return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


def test_classes_are_the_ids_that_occur(folder):
    cfg, lines = read(folder)
    assert cfg.model.decode_head.num_classes == 3
    assert lines == [f'{folder}: 2 training and 2 validation images, 3 classes']
    assert dataset(cfg).metainfo['classes'] == ['class 0', 'class 3', 'class 11']
    assert len(dataset(cfg, 'val')) == 2
    sample = dataset(cfg, 'val')[0]['data_samples'].gt_sem_seg.data
    assert sorted(sample.unique().tolist()) == [0, 1, 2]


@pytest.mark.parametrize('ignore', [11, [11]])
def test_ids_without_label_are_left_out(folder, ignore):
    cfg, lines = read(folder, {'labels.ignore': ignore})
    assert cfg.model.decode_head.num_classes == 2 and 'id 11 without label' in lines[0]
    sample = dataset(cfg, 'val')[0]['data_samples'].gt_sem_seg.data
    assert sorted(sample.unique().tolist()) == [0, 1, 255]


def test_names_come_from_classes_json(folder):
    names = [f'thing {i}' for i in range(12)]
    (folder / 'classes.json').write_text(json.dumps({'classes': names,
                                                     'palette': [[i, i, i] for i in range(12)]}))
    cfg, _ = read(folder)
    assert cfg.model.decode_head.num_classes == 12
    assert dataset(cfg).metainfo['classes'] == names
    assert dataset(cfg).metainfo['palette'][3] == [3, 3, 3]


@pytest.mark.parametrize('palette', [
    'http://127.0.0.1:9/colors.txt', 'FILE', ['FILE'] * 12, [['r', 'g', 'b']] * 12, [[0, 0, 0]],
    [[0, 0, 256]] * 12, [[0, 0, 0.5]] * 12, [[0, 0]] * 12, [[True, 0, 0]] * 12, {'0': [0, 0]}, 0],
    ids=str)
def test_a_palette_is_colors_and_names_no_file(folder, palette, tmp_path, capsys):
    (tmp_path / 'secret.txt').write_text('do not print me')
    content = json.dumps({'classes': [f'thing {i}' for i in range(12)], 'palette': palette})
    (folder / 'classes.json').write_text(content.replace('FILE', str(tmp_path / 'secret.txt')))
    assert main(['check', TWIN, '--data-root', str(folder)]) == 2
    error = capsys.readouterr().err
    assert 'do not print' not in error and len(error.splitlines()) == 1
    assert f'{folder}/classes.json must be' in error and (
        'palette must be one [r, g, b] of 0 to 255 for each of the 12 classes, not' in error)


@pytest.mark.parametrize('content', [
    {str(number): f'thing {number}' for number in reversed(range(12))},
    {f'thing {number}': number for number in reversed(range(12))},
    {'classes': {str(number): f'thing {number}' for number in range(12)}},
    {'classes': {f'thing {number}': number for number in range(12)}}])
def test_names_come_from_a_mapping_of_ids(folder, content):
    (folder / 'classes.json').write_text(json.dumps(content))
    cfg, _ = read(folder)
    assert dataset(cfg).metainfo['classes'] == [f'thing {number}' for number in range(12)]


def test_ids_that_a_mapping_leaves_out_keep_their_place(folder):
    (folder / 'classes.json').write_text(json.dumps({'11': 'sky', '0': 'ground'}))
    cfg, _ = read(folder)
    assert dataset(cfg).metainfo['classes'] == [
        'ground', *(f'class {number}' for number in range(1, 11)), 'sky']


def test_linked_subfolders_count_and_loops_end(folder, tmp_path_factory):
    far = tmp_path_factory.mktemp('far')
    for kind in ('images', 'labels'):
        (folder / kind / 'train/sub').rename(far / kind)
        (folder / kind / 'train/sub').symlink_to(far / kind)
        (far / kind / 'loop').symlink_to(folder / kind / 'train')
    assert read(folder)[1] == [f'{folder}: 2 training and 2 validation images, 3 classes']
    assert len(dataset(read(folder)[0])) == 2
    pairs = find_pixel_labels(folder).pairs['train']
    assert [path.relative_to(folder).as_posix() for pair in pairs for path in pair] == [
        'images/train/a.jpg', 'labels/train/a.png',
        'images/train/sub/b.png', 'labels/train/sub/b.png']


def label(folder, name='train/a.png'):
    return folder / 'labels' / name


@pytest.mark.parametrize(('spoil', 'words'), [
    (lambda f: shutil.rmtree(f / 'labels/val'), 'has no labels/val; expected are images/'),
    (lambda f: shutil.rmtree(f / 'images'), 'has no images/train, no images/val'),
    (lambda f: (f / 'classes.json').write_text('["a", "b"]'), 'classes.json must be'),
    (lambda f: (f / 'classes.json').write_text('{"a": 0, "b": 0}'), 'an id of its own'),
    (lambda f: (f / 'classes.json').write_text('{"a": "x", "b": 1}'), 'an id of its own'),
    (lambda f: (f / 'classes.json').write_text('{"0": 7}'), 'classes.json must be'),
    (lambda f: (f / 'classes.json').write_text('{}'), 'classes.json must be'),
    (lambda f: [p.unlink() for p in (f / 'images/val').iterdir()], 'holds no images'),
])
def test_a_wrong_folder_is_one_clear_line(folder, spoil, words):
    spoil(folder)
    with pytest.raises(UsageError, match=words) as error:
        read(folder)
    assert '\n' not in str(error.value)


def test_one_class_is_too_few(folder):
    with pytest.raises(UsageError, match=r'hold 1 class \(ids \[0\]'):
        read(folder, {'labels.ignore': [3, 11]})


@pytest.mark.parametrize('ignore', ['void', -1, 300, [3, 256], [True]])
def test_what_is_ignored_must_be_an_id(folder, ignore):
    with pytest.raises(UsageError, match=r'labels\.ignore must be an id from 0 to 255 or a list'):
        read(folder, {'labels.ignore': ignore})


@pytest.mark.skipif(not CAMVID.is_dir(), reason='needs the shared data (camvid)')
def test_camvid():
    _, lines = read(CAMVID, {'labels.ignore': 11})
    assert '367 training and 101 validation images, 11 classes, id 11 without label' in lines[0]


def test_the_published_protocol_is_what_is_configured(tmp_path):
    """METHODS: crop 769, rate .01, 90k, B 16 = 8 × 2, × .1 at 70 % and 90 %, conv5 dilated."""
    cfg, target = read_downstream_config('downstream/fcn_r50_cityscapes')
    assert cfg.train_cfg.max_iters == 90000
    assert cfg.train_dataloader.batch_size == 2
    steps, = cfg.param_scheduler
    assert (steps.type, steps.milestones, steps.gamma) == ('MultiStepLR', [63000, 81000], 0.1)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum) == ('SGD', 0.01, 0.9)
    assert [step.type for step in cfg.train_dataloader.dataset.pipeline] == [
        'LoadImageFromFile', 'LoadAnnotations', 'RandomResize', 'RandomCrop', 'RandomFlip',
        'PackSegInputs']
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == (769, 769)
    apply_recipe(cfg, target, None)
    from mmseg.registry import MODELS
    backbone = {key: value for key, value in cfg.model.backbone.items() if key != 'type'}
    assert [stage.stride for stage in feature_stages(build_backbone(
        {'type': f'mmseg.{cfg.model.backbone.type}', **backbone}), 64)] == [4, 8, 16, 16]
    head = MODELS.build({**cfg.model.decode_head, '_scope_': 'mmseg'})
    convs = [layer.conv for layer in head.convs]
    assert [(conv.kernel_size, conv.out_channels, conv.dilation) for conv in convs] == [
        ((3, 3), 256, (6, 6))] * 2
    assert head.conv_seg.kernel_size == (1, 1) and head.dropout is None
    with pytest.raises(UsageError, match=r'no leftImg8bit/train, .* no gtFine/train'):
        target.set_data(cfg, str(tmp_path))
    with pytest.raises(UsageError, match='no folder data/cityscapes'):
        target.set_data(read_downstream_config('downstream/fcn_r50_cityscapes')[0], None)


def test_a_cityscapes_layout_is_found(tmp_path):
    for split in ('train', 'val'):
        for kind, name in (('leftImg8bit', 'x_leftImg8bit'), ('gtFine', 'x_gtFine_labelTrainIds')):
            (tmp_path / kind / split / 'town').mkdir(parents=True)
            Image.new('RGB' if kind == 'leftImg8bit' else 'L', (64, 32)).save(
                tmp_path / kind / split / 'town' / f'{name}.png')
    cfg, target = read_downstream_config('downstream/fcn_r50_cityscapes')
    assert target.set_data(cfg, str(tmp_path)) == [
        f'{split}: 1 images in {tmp_path}, label maps *_gtFine_labelTrainIds.png'
        for split in ('train', 'val')]
    assert len(dataset(cfg)) == 1


@pytest.mark.parametrize('changes', [
    {'type': 'ADE20KDataset', 'reduce_zero_label': True},
    {'type': 'PascalVOCDataset', 'ann_file': 'names.txt'},
    {'type': 'CityscapesDataset', 'img_suffix': '.jpg', 'seg_map_suffix': '.png',
     'metainfo': {'classes': ('car', 'road')}},
    {'type': 'CityscapesFolder', 'ids': True},
    {'type': 'LabelFolder', 'ids': {255: 1, 7: 255}, 'metainfo': {'classes': ['a', 'b', 'c']}},
])
def test_what_an_id_means_is_what_the_library_makes_of_it(changes, tmp_path):
    for kind, name in (('images', 'x_leftImg8bit.png'), ('images', 'x.jpg'),
                       ('labels', 'x_gtFine_labelIds.png'), ('labels', 'x.png')):
        (tmp_path / kind).mkdir(exist_ok=True)
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / kind / name)
    (tmp_path / 'names.txt').write_text('x\n')
    prefix = {'img_path': 'images', 'seg_map_path': 'labels'}
    cfg, target = read_downstream_config(TWIN)
    leaf = {**changes, 'data_root': str(tmp_path), 'data_prefix': prefix,
            'pipeline': cfg.val_dataloader.dataset.pipeline}
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset = leaf
    with DefaultScope.overwrite_default_scope('mmseg'):
        report, _ = target.inspect_data(cfg)
        loaded = DATASETS.build(leaf)[0]['data_samples'].gt_sem_seg.data.flatten().numpy()
    count = len(report.maps.names)
    assert [one if one >= 0 else 254 for one in report.maps.lookup] == [
        one if one < count or one == 255 else 254 for one in loaded.tolist()]
    assert len(report.samples) >= 1 and len(report.samples[0]) == 2


def test_files_for_other_loaders_are_not_judged(folder):
    cfg, target = read_downstream_config(TWIN)
    target.set_data(cfg, str(folder))
    for split, change in (('train', {'type': 'LoadBiomedicalImageFromFile'}),
                          ('val', {'type': 'LoadImageFromFile', 'imdecode_backend': 'tifffile'})):
        cfg[f'{split}_dataloader'].dataset.pipeline[0] = change
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert [report.samples for report in target.inspect_data(cfg)] == [(), ()]


def test_translation_says_what_is_possible():
    target = TRANSFER_TARGETS.get('mmseg')()
    state = build_backbone({'type': 'timm.regnetx_002'}).state_dict()
    with pytest.raises(UsageError, match='ResNets with a plain 7×7 stem, ResNets with a deep'):
        translate(target, state, 'timm.regnetx_002')
    wide = build_backbone({'type': 'timm.wide_resnet50_2'}).state_dict()
    with pytest.raises(UsageError, match='mmseg builds no ResNets with a plain 7×7 stem of this'):
        translate(target, wide, 'timm.wide_resnet50_2')
    own = build_backbone({'type': 'mmseg.ResNetV1c', 'depth': 18}).state_dict()
    assert translate(target, own, 'mmseg.ResNetV1c').keys() == own.keys()
    source = {'type': 'mmseg.ResNetV1c', 'depth': 18}
    assert counterpart(target, own, source) == source


def test_scores_are_the_figures_people_use():
    scores = TRANSFER_TARGETS.get('mmseg')().main_scores(
        {'aAcc': 50.0, 'mIoU': 10.109999656677246, 'mAcc': 20.0, 'time': 1})
    assert scores == {'mIoU': 10.11, 'mAcc': 20.0, 'aAcc': 50.0}
