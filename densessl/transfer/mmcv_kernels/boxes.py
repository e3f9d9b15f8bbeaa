"""Overlap and suppression of boxes (N, 4), given as x1, y1, x2, y2.

``offset=1`` counts pixels: a box covers x2 - x1 + 1. ``offset=0`` measures: x2 - x1.
"""
from __future__ import annotations

import torch
from torch import Tensor

from densessl.transfer.mmcv_kernels import full_precision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes (N, 4) that non-maximum suppression keeps, by descending score (N,)."""
    boxes, scores = full_precision(boxes, scores)
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    # mmcv's threshold is a C float: an IoU of exactly 0.1f must not exceed a threshold of 0.1.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return torch.ops.torchvision.nms(boxes, scores, threshold)


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float, sigma: float,
            min_score: float, method: int, offset: int) -> Tensor:
    """Soft-NMS (arXiv 1704.04503): lower the scores of overlapping boxes instead of dropping them.

    ``method`` is the factor of a score: 0 (naive) 0 and 1 (linear) 1 - IoU, both from
    ``iou_threshold`` on; 2 (gaussian) exp(-IoU² / sigma). Writes the K boxes that keep a score of
    ``min_score``, and that score, to ``dets[:K]`` (N, 5); returns their indices (K,).
    """
    boxes, scores = full_precision(boxes, scores)
    index = torch.arange(len(boxes), device=boxes.device)
    kept = []
    while len(index):
        best = int(scores.argmax())
        dets[len(kept), :4], dets[len(kept), 4] = boxes[best], scores[best]
        kept.append(index[best])
        iou = _overlaps(boxes[best:best + 1], boxes, offset)[0]
        if method == 2:
            factor = torch.exp(-iou**2 / sigma)
        else:
            factor = torch.where(iou >= iou_threshold, 1 - iou if method == 1 else 0.0, 1.0)
        scores = scores * factor
        stays = ~(scores < min_score)
        stays[best] = False
        index, boxes, scores = index[stays], boxes[stays], scores[stays]
    return torch.stack(kept) if kept else index


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """NMS over dets (N, 5: box, score) that lists each kept box with those it suppresses."""
    dets, = full_precision(dets)
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        iou = _overlaps(dets[order[:1], :4], dets[order, :4])[0]
        joins = iou >= iou_threshold
        joins[0] = True  # a box without area has no IoU, not even with itself
        groups.append(order[joins].tolist())
        order = order[~joins]
    return groups


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool,
                  offset: int) -> None:
    """Write IoU (mode 0) or intersection over the area of bboxes1 (mode 1) to ``ious``.

    bboxes1 (M, 4) and bboxes2 (N, 4) give (M, N), or (M,) if ``aligned``, where M = N.
    """
    bboxes1, bboxes2 = full_precision(bboxes1, bboxes2)
    ious.copy_(_overlaps(bboxes1, bboxes2, offset, mode, aligned))


def _overlaps(boxes1: Tensor, boxes2: Tensor, offset: int = 0, mode: int = 0,
              aligned: bool = False) -> Tensor:
    if not aligned:
        boxes1 = boxes1[:, None]  # (M, 1, 4) against (N, 4)
    low = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    high = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    overlap = (high - low + offset).clamp(min=0).prod(dim=-1)
    area1, area2 = ((box[..., 2:] - box[..., :2] + offset).prod(dim=-1) for box in (boxes1, boxes2))
    return overlap / (area1 + area2 - overlap if mode == 0 else area1)
