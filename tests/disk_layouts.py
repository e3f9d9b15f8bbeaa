"""The built-in sample laid out as other data sets are on disk."""
import json
from pathlib import Path

import cv2
import numpy as np


def as_vocdevkit(sample: Path, root: Path, names: dict[str, str] | None = None) -> Path:
    """``root`` becomes a VOCdevkit: half of the training images are VOC2007's, half VOC2012's, the
    validation images VOC2007's test list and VOC2012's segmentation val list.

    Args:
        names: of classes, in place of the sample's.
    """
    for split in ('train', 'val'):
        coco = json.loads((sample / 'annotations' / f'instances_{split}.json').read_text())
        classes = {one['id']: one['name'] for one in coco['categories']}
        for number, image in enumerate(coco['images']):
            years = ('2007', '2012') if split == 'val' else (('2007', '2012')[number % 2],)
            objects = [one for one in coco['annotations'] if one['image_id'] == image['id']]
            name = f'{split}_{number:04d}'
            for year in years:
                folder = root / f'VOC{year}'
                picture = cv2.imread(str(sample / 'images' / split / image['file_name']))
                label = cv2.imread(str(sample / 'labels' / split / f'{number:05d}.png'), -1)
                label[:2] = 255
                for kind, suffix, content in (('JPEGImages', 'jpg', picture),
                                              ('SegmentationClass', 'png', label)):
                    (folder / kind).mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(folder / kind / f'{name}.{suffix}'), content)
                _write(folder / 'Annotations' / f'{name}.xml', _xml(image, [
                    ((names or {}).get(classes[one['category_id']], classes[one['category_id']]),
                     one['bbox']) for one in objects]))
                main = 'trainval' if split == 'train' else 'test'
                for path in (f'Main/{main}', f'Segmentation/{split}'):
                    _append(folder / 'ImageSets' / f'{path}.txt', name)
    (root / 'VOC2012/ImageSets/Segmentation/train.txt').rename(
        root / 'VOC2012/ImageSets/Segmentation/train_aug.txt')
    return root


def as_cityscapes(sample: Path, root: Path, kind: str = 'labelIds') -> Path:
    """``root`` becomes a Cityscapes: class k of the sample has train id k.

    Args:
        kind: ``'labelIds'`` or ``'labelTrainIds'``.
    """
    ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24], np.uint8)
    for split in ('train', 'val'):
        for path in sorted((sample / 'images' / split).iterdir()):
            label = cv2.imread(str(sample / 'labels' / split / f'{path.stem}.png'), -1)
            label = ids[label] if kind == 'labelIds' else label
            label[:2] = 0 if kind == 'labelIds' else 255       # unlabelled
            for folder, suffix, content in (
                    ('leftImg8bit', 'leftImg8bit', cv2.imread(str(path))),
                    ('gtFine', f'gtFine_{kind}', label)):
                (root / folder / split / 'town').mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / folder / split / 'town' / f'town_{path.stem}_{suffix}.png'),
                            content)
    return root


def _xml(image: dict, objects: list[tuple[str, list[float]]]) -> str:
    inner = ''.join(
        f'<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>'
        f'<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>'
        f'<part><name>head</name></part></object>' for name, (x, y, w, h) in objects)
    return (f'<annotation><size><width>{image["width"]}</width><height>{image["height"]}</height>'
            f'</size>{inner}</annotation>')


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else '') + line + '\n')
