"""Every downstream config is what its protocol says, and its twin is the same thing made small."""
import ast

import pytest
from mmengine.registry import DefaultScope

from densessl.backbones import build_backbone, feature_stages
from densessl.config import config_folders
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.weights import apply_recipe

FOLDER = next(folder / 'downstream' for folder in config_folders()
              if (folder / 'downstream').is_dir())
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if not path.stem.startswith('_'))
# config: iterations, images of a GPU, rate, iterations of the drops, twin
PUBLISHED = {
    'mask_rcnn_r50_fpn_coco': (90000, 2, 0.02, [60000, 80000], 'mask_rcnn_r18_coco'),
    'mask_rcnn_r50_fpn_coco_2x': (180000, 2, 0.02, [120000, 160000], 'mask_rcnn_r18_coco'),
    'retinanet_r50_fpn_coco': (90000, 2, 0.01, [60000, 80000], 'retinanet_r18_coco'),
    'fcos_r50_fpn_coco': (90000, 2, 0.01, [60000, 80000], 'fcos_r18_coco'),
    'panoptic_fpn_r50_coco': (90000, 2, 0.02, [60000, 80000], 'panoptic_fpn_r18_coco'),
    'faster_rcnn_c4_r50_voc': (24000, 2, 0.02, [18000, 22000], 'faster_rcnn_c4_r18_voc'),
    'fcn_r50_voc12aug': (30000, 2, 0.003, [21000, 27000], 'fcn_r18_voc12aug'),
    'fcn_r50_cityscapes': (90000, 2, 0.01, [63000, 81000], 'fcn_r18_cityscapes'),
    'upernet_r50_cityscapes': (90000, 2, 0.01, [63000, 81000], 'upernet_r18_cityscapes'),
}


def test_every_config_is_a_protocol_or_a_twin():
    twins = {values[-1] for values in PUBLISHED.values()}
    assert set(NAMES) == set(PUBLISHED) | twins | {'fcn_r18_folder', 'fcn_lite0_folder'}


@pytest.mark.parametrize('name', NAMES)
def test_every_config_reads_as_a_document(name):
    text = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    for word in (f'downstream/{name} ', '--backbone', 'Data ', 'Cost ', 'Expected '):
        assert word in text
    if name in PUBLISHED:
        assert 'https://arxiv.org/abs/' in text and '--launcher pytorch' in text


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_values(name):
    iterations, images, rate, drops, _ = PUBLISHED[name]
    cfg, target = read_downstream_config(f'downstream/{name}')
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', iterations)
    assert cfg.train_dataloader.batch_size == images
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        'SGD', rate, 0.9, 1e-4)
    assert cfg.param_scheduler[-1].milestones == drops
    assert not any(one.by_epoch for one in cfg.param_scheduler)
    kind = cfg.model.backbone
    assert (kind.type, kind.depth, kind.get('style', 'pytorch')) == ('ResNet', 50, 'pytorch')
    # the recipe finds nothing frozen, no other stem and no other source of weights: only the kind
    # of BN depends on the number of devices
    lines = apply_recipe(cfg, target, None)
    assert [line for line in lines if not line.startswith(('norm_cfg: SyncBN', 'why: BN'))] == []
    assert kind.norm_cfg == dict(type='BN', requires_grad=True)


@pytest.mark.parametrize('name', PUBLISHED)
def test_full_size_and_twin_build_and_share_their_parts(name):
    parts = {}
    for config in (name, PUBLISHED[name][-1]):
        cfg, target = read_downstream_config(f'downstream/{config}')
        apply_recipe(cfg, target, None)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = target.models().build(cfg.model)
        parts[config] = {part: type(module).__name__ for part, module in model.named_children()}
        assert all(one.requires_grad for one in model.parameters())
        assert sum(one.numel() for one in model.parameters()) < 20e6 or config == name
    full, twin = parts.values()
    full.pop('auxiliary_head', None), twin.pop('auxiliary_head', None)
    assert full == twin


def test_the_segmentors_of_voc_are_dilated_as_published():
    cfg, _ = read_downstream_config('downstream/fcn_r50_voc12aug')
    backbone = {key: value for key, value in cfg.model.backbone.items() if key != 'type'}
    backbone['norm_cfg'] = dict(type='BN')
    stages = feature_stages(build_backbone({'type': 'mmseg.ResNet', **backbone}), 64)
    assert [stage.stride for stage in stages] == [4, 8, 16, 16]
    head = cfg.model.decode_head
    assert (head.channels, head.num_convs, head.dilation, head.num_classes) == (256, 2, 6, 21)
    crop = next(step for step in cfg.train_dataloader.dataset.pipeline if 'crop_size' in step)
    assert crop.crop_size == cfg.model.data_preprocessor.size == (513, 513)


def test_voc_detection_is_scored_at_ten_thresholds():
    cfg, _ = read_downstream_config('downstream/faster_rcnn_c4_r50_voc')
    assert cfg.val_evaluator.iou_thrs == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
