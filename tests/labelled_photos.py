"""Tiny labelled photos on disk, in the layouts and with the oddities that people have."""
import copy
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS, METRICS, DefaultScope
from PIL import Image
from pycocotools import mask as rle

from densessl.cli import main
from densessl.finetune.finetune import read_downstream_config

SIDES = 60, 40    # width, height as stored


def write_photo(path: Path, size: tuple[int, int] = SIDES, orientation: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def write_coco(root: Path, photos: list[list], splits=('train', 'val'), categories=None,
               size=SIDES, written=None, orientation=0) -> Path:
    """A COCO folder whose splits are alike: a list of objects for each photo, either a box or the
    keys of an annotation."""
    for split in splits:
        content = {'images': [], 'annotations': [],
                   'categories': categories or [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]}
        for number, objects in enumerate(photos, 1):
            write_photo(root / f'images/{split}/{number}.jpg', size, orientation)
            width, height = written or size
            content['images'].append({'id': number, 'file_name': f'{number}.jpg', 'width': width,
                                      'height': height})
            for one in objects:
                one = one if isinstance(one, dict) else {'bbox': one}
                content['annotations'].append({
                    'id': len(content['annotations']) + 1, 'image_id': number, 'category_id': 1,
                    'iscrowd': 0, **one})
        path = root / f'annotations/instances_{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def xml(objects: list[tuple], size=SIDES) -> str:
    """An annotation of (name, corners or None, text inside the object)."""
    corners = ('xmin', 'ymin', 'xmax', 'ymax')
    inner = ''.join(
        f'<object><name>{name}</name>{more}' + ('' if box is None else '<bndbox>' + ''.join(
            f'<{key}>{value}</{key}>' for key, value in zip(corners, box, strict=True))
            + '</bndbox>') + '</object>' for name, box, more in objects)
    sides = '' if size is None else (f'<size><width>{size[0]}</width><height>{size[1]}</height>'
                                     f'</size>')
    return f'<annotation>{sides}{inner}</annotation>'


def set_up(root: Path, config='retinanet_r18_coco'):
    """(config, lines) of a folder."""
    cfg, target = _read(config)
    cfg = copy.deepcopy(cfg)
    return cfg, target.set_data(cfg, str(root)), target


@cache
def _read(config: str):
    return read_downstream_config(f'downstream/{config}')


def reports(root: Path, config='retinanet_r18_coco'):
    cfg, _, target = set_up(root, config)
    return target.inspect_data(cfg)


def told(report, kind='unusable') -> dict[str, list[str]]:
    """The names of the files of each finding, by its words."""
    return {one.words: [Path(file).name for file in one.files] for one in report.of_kind(kind)}


def built(cfg, split):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


def boxes_in_pipeline(dataset) -> list[list[list[float]]]:
    """Boxes that training sees without its random flip, in pixels of the file as displayed."""
    steps = getattr(dataset, 'datasets', [dataset])[0].pipeline.transforms
    steps[:] = [step for step in steps if type(step).__name__ != 'RandomFlip']
    found = []
    for number in range(len(dataset)):
        sample = dataset[number]['data_samples']
        factor = torch.tensor(sample.scale_factor).repeat(2)
        found.append((sample.gt_instances.bboxes.tensor / factor).tolist())
    return found


def perfect_scores(cfg) -> dict[str, float]:
    """What the config's metric says of a model whose output is what its data set holds."""
    val = built(cfg, 'val')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    for number in range(len(val)):
        info = val.get_data_info(number)
        objects = [one for one in info['instances'] if not one['ignore_flag']]
        size = info['height'], info['width']
        boxes = torch.tensor([one['bbox'] for one in objects], dtype=torch.float).reshape(-1, 4)
        labels = torch.tensor([one['bbox_label'] for one in objects])
        found = {'bboxes': boxes, 'scores': torch.ones(len(objects)), 'labels': labels}
        if 'segm' in getattr(metric, 'metrics', ()):
            found['masks'] = [
                rle.merge(rle.frPyObjects(one['mask'], *size)) if isinstance(one['mask'], list)
                else rle.frPyObjects(one['mask'], *size) if isinstance(one['mask']['counts'], list)
                else one['mask'] for one in objects]
        ignored = [one for one in info['instances'] if one['ignore_flag']]
        metric.process({}, [{
            'img_id': info['img_id'], 'ori_shape': size, 'pred_instances': found,
            'gt_instances': {'bboxes': boxes, 'labels': labels},
            'ignored_instances': {
                'bboxes': torch.tensor([one['bbox'] for one in ignored]).reshape(-1, 4),
                'labels': torch.tensor([one['bbox_label'] for one in ignored])}}])
    return metric.evaluate(len(val))


def finetune_tiny(root: Path, work_dir: Path, config='retinanet_r18_coco') -> int:
    """The exit code of two iterations on images of at most 64 pixels, and their evaluation."""
    return main([
        'finetune', f'downstream/{config}', '--backbone', 'random', '--data-root', str(root),
        '--work-dir', str(work_dir), '--cfg-options', 'train_cfg.max_iters=2',
        'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0', 'val_dataloader.dataset.pipeline.1.scale=(64, 64)'])
