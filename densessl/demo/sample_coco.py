"""The built-in sample's objects and segments in COCO's two formats."""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from densessl.demo.scenes import CLASSES, GROUNDS, THINGS, Scene

IDS = {name: number for number, name in enumerate(THINGS + GROUNDS, 1)}   # things first, as COCO


def panoptic_map(scene: Scene) -> ndarray:
    """The segments of a scene as COCO colors them, (H, W, 3) uint8 RGB: red is the category's id,
    green the object's number (0: stuff), so a segment's id is category + 256 · object."""
    category = np.array([IDS[name] for name in CLASSES], np.uint8)[scene.labels]
    return np.dstack([category, scene.objects, np.zeros_like(category)])


def panoptic_segments(colors: ndarray) -> list[dict[str, Any]]:
    """The ``segments_info`` of a map of :func:`panoptic_map`."""
    ids = colors[..., 0] + 256 * colors[..., 1].astype(np.int32)
    segments = []
    for number in np.unique(ids).tolist():
        mask = (ids == number).astype(np.uint8)
        segments.append({'id': number, 'category_id': number % 256, 'iscrowd': 0,
                         'area': int(mask.sum()), 'bbox': list(cv2.boundingRect(mask))})
    return segments


def instances_json(scenes: list[list[dict[str, Any]]], size: tuple[int, int]) -> dict[str, Any]:
    """The annotations of a split's objects (:func:`objects`); ids count from 1."""
    annotations = [{'image_id': number, **one}
                   for number, found in enumerate(scenes, 1) for one in found]
    return {'images': _images(len(scenes), size),
            'annotations': [{'id': number, **one} for number, one in enumerate(annotations, 1)],
            'categories': [{'id': IDS[name], 'name': name} for name in THINGS]}


def objects(scene: Scene) -> list[dict[str, Any]]:
    """The objects of a scene as COCO's annotations have them, without ids."""
    return [{'category_id': IDS[one.category],
             'segmentation': [polygon.ravel().tolist() for polygon in one.polygons],
             'area': one.area, 'bbox': list(one.box), 'iscrowd': 0} for one in scene.instances]


def panoptic_json(scenes: list[list[dict[str, Any]]], size: tuple[int, int]) -> dict[str, Any]:
    """The panoptic annotations of a split, from the segments of its scenes."""
    images = _images(len(scenes), size)
    return {'images': images,
            'annotations': [
                {'image_id': image['id'], 'segments_info': segments,
                 'file_name': image['file_name'].replace('.jpg', '.png')}
                for image, segments in zip(images, scenes, strict=True)],
            'categories': [{'id': number, 'name': name, 'isthing': int(name in THINGS)}
                           for name, number in IDS.items()]}


def _images(number: int, size: tuple[int, int]) -> list[dict[str, Any]]:
    return [{'id': i + 1, 'file_name': f'{i:05d}.jpg', 'height': size[0], 'width': size[1]}
            for i in range(number)]
