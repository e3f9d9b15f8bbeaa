import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms


def random_boxes(n, size=20.0):
    corner = torch.rand(n, 2) * size
    return torch.cat((corner, corner + 1 + torch.rand(n, 2) * size), dim=1)


def overlap(a, b, offset=0, over_first=False):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a, area_b = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    union = area_a if over_first else area_a + area_b - width * height
    return width * height / union if union else math.nan


def nms_by_loop(boxes, scores, threshold, offset=0):
    boxes, kept = boxes.tolist(), []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('n', [0, 1, 60])
def test_nms_keeps_what_a_loop_keeps(n, offset):
    boxes, scores = random_boxes(n), torch.rand(n)
    dets, kept = nms(boxes, scores, 0.3, offset=offset)
    assert kept.tolist() == nms_by_loop(boxes, scores, 0.3, offset)
    assert kept.dtype == torch.long
    assert torch.equal(dets, torch.cat((boxes[kept], scores[kept, None]), dim=1))


def test_nms_offset_decides_between_pixels_and_lengths():
    boxes = torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1]])  # they share a column of pixels, no length
    scores = torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.3, offset=0)[1]) == 2
    assert len(nms(boxes, scores, 0.3, offset=1)[1]) == 1


def test_nms_threshold_is_compared_in_single_precision():
    boxes = torch.tensor([[0, 0, 5.5, 1], [4.5, 0, 10, 1]])  # IoU 1/10, above 0.1 as a double
    assert len(nms(boxes, torch.tensor([0.9, 0.8]), 0.1)[1]) == 2


def test_nms_takes_numpy_limits_and_strided_boxes():
    boxes, scores = random_boxes(60), torch.rand(60)
    strided = boxes.repeat_interleave(2, dim=1)[:, ::2]
    expected = [i for i in nms_by_loop(boxes, scores, 0.3) if scores[i] > 0.2][:5]
    _, kept = nms(strided, scores, 0.3, score_threshold=0.2, max_num=5)
    assert kept.tolist() == expected
    dets, kept = nms(boxes.numpy(), scores.numpy(), 0.3, score_threshold=0.2, max_num=5)
    assert isinstance(dets, np.ndarray) and kept.tolist() == expected


@pytest.mark.parametrize('dtypes', [(torch.float32, torch.bfloat16), (torch.float16,) * 2,
                                    (torch.float64, torch.float32)])
def test_nms_takes_mixed_and_half_precision(dtypes):
    boxes, scores = random_boxes(30).to(dtypes[0]), torch.linspace(0, 1, 30).to(dtypes[1])
    assert nms(boxes, scores, 0.3)[1].tolist() == nms_by_loop(boxes, scores, 0.3)


@pytest.mark.parametrize('split_thr', [10000, 10])  # 10: mmcv goes class by class
def test_batched_nms_separates_classes_unless_told_otherwise(split_thr):
    boxes, scores, classes = random_boxes(60), torch.rand(60), torch.arange(60) % 3
    config = {'type': 'nms', 'iou_threshold': 0.3, 'split_thr': split_thr}
    _, kept = batched_nms(boxes, scores, classes, config)
    by_class = [torch.nonzero(classes == c).squeeze(1) for c in range(3)]
    expected = [i[nms_by_loop(boxes[i], scores[i], 0.3)] for i in by_class]
    assert sorted(kept.tolist()) == sorted(torch.cat(expected).tolist())
    if split_thr > 60:
        _, kept = batched_nms(boxes, scores, classes, config, class_agnostic=True)
        assert kept.tolist() == nms_by_loop(boxes, scores, 0.3)


def soft_nms_by_loop(boxes, scores, method, threshold, sigma, min_score, offset):
    boxes, left = boxes.tolist(), dict(enumerate(scores.tolist()))
    picked = []
    while left:
        best = max(left, key=left.get)
        picked.append((best, left.pop(best)))
        for i in left:
            iou = overlap(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                left[i] *= math.exp(-iou**2 / sigma)
            elif iou >= threshold:
                left[i] *= 1 - iou if method == 'linear' else 0
        left = {i: score for i, score in left.items() if score >= min_score}
    return picked


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_lowers_scores_as_a_loop_does(method, offset):
    boxes, scores = random_boxes(40), torch.rand(40)
    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    expected = soft_nms_by_loop(boxes, scores, method, 0.3, 0.5, 0.05, offset)
    assert 1 < len(expected) < 40  # some boxes fall below the minimal score
    assert kept.tolist() == [index for index, _ in expected]
    assert torch.equal(dets[:, :4], boxes[kept])
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))


def test_soft_nms_of_nothing_of_points_and_within_batched_nms():
    assert [len(part) for part in soft_nms(torch.zeros(0, 4), torch.zeros(0))] == [0, 0]
    points = torch.tensor([[3.0, 1, 3, 1]]).repeat(3, 1)  # no area, no IoU: nothing is lowered
    dets, _ = soft_nms(points, torch.tensor([0.5, 0.9, 0.0]), 0.6)
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.5])
    boxes, scores = random_boxes(20), torch.rand(20)
    config = {'type': 'soft_nms', 'iou_threshold': 0.3, 'min_score': 0.05}
    dets, kept = batched_nms(boxes, scores, torch.zeros(20), config)
    expected = soft_nms_by_loop(boxes, scores, 'linear', 0.3, 0.5, 0.05, 0)
    assert kept.tolist() == [index for index, _ in expected]


def test_nms_match_groups_what_is_suppressed():
    boxes, scores = random_boxes(40), torch.rand(40)
    groups = nms_match(torch.cat((boxes, scores[:, None]), dim=1), 0.3)
    left = scores.argsort(descending=True).tolist()
    for group in groups:
        first = boxes[left[0]].tolist()
        expected = [i for i in left if overlap(first, boxes[i].tolist()) >= 0.3]
        assert group.tolist() == expected
        left = [i for i in left if i not in expected]
    assert left == []


def test_nms_match_of_nothing_and_of_points():
    assert nms_match(torch.zeros(0, 5), 0.3) == []
    points = np.array([[3, 1, 3, 1, 0.5], [3, 1, 3, 1, 0.9]], dtype=np.float32)
    assert [group.tolist() for group in nms_match(points, 0.3)] == [[1], [0]]


@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps_matches_a_loop(mode, offset, aligned):
    boxes1, boxes2 = random_boxes(7), random_boxes(7 if aligned else 5)
    table = [[overlap(a, b, offset, mode == 'iof') for b in boxes2.tolist()]
             for a in boxes1.tolist()]
    expected = torch.tensor(table).diagonal() if aligned else torch.tensor(table)
    computed = bbox_overlaps(boxes1, boxes2, mode, aligned, offset)
    torch.testing.assert_close(computed, expected)
    rounded = bbox_overlaps(boxes1.half(), boxes2.half(), mode, aligned, offset)
    assert rounded.dtype == torch.float16
    torch.testing.assert_close(rounded.float(), expected, rtol=0, atol=0.01)


def test_bbox_overlaps_of_nothing():
    some, none = random_boxes(3), torch.zeros(0, 4)
    assert bbox_overlaps(some, none).shape == (3, 0)
    assert bbox_overlaps(none, some).shape == (0, 3)
    assert bbox_overlaps(none, none, aligned=True).shape == (0,)
