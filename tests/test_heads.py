"""Region pooling against the released formulation: one-hot, average pool, argmax."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densessl.heads import cell_counts, pool_regions, region_weights, sample_regions


def label_map(batch=3, size=64, regions=11, seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(regions, (batch, 9, 9), generator=g)
    return F.interpolate(coarse[:, None].float(), (size, size), mode='nearest')[:, 0].long()


@pytest.mark.parametrize('cells', [2, 4, 8])
def test_counts_equal_pooled_one_hot(cells):
    mask = label_map()
    counts = cell_counts(mask, (cells, cells), 11)
    one_hot = F.one_hot(mask, 11).permute(0, 3, 1, 2).float()
    pooled = F.avg_pool2d(one_hot, 64 // cells) * (64 // cells) ** 2
    assert torch.equal(counts, pooled.flatten(2).transpose(1, 2).int())


def test_counts_when_the_map_does_not_divide_the_mask():
    mask = label_map(size=50)
    counts = cell_counts(mask, (7, 7), 11)
    assert counts.sum() == mask.numel()
    assert (counts.sum(2) >= 49).all(), 'every cell has at least 7×7 pixels of a 50 px mask'


def test_a_tie_goes_to_the_lowest_id():
    mask = torch.tensor([[[2, 1], [1, 2]]])
    weights = region_weights(cell_counts(mask, (1, 1), 3), torch.tensor([[1, 2]]), hard=True)
    assert weights.tolist() == [[[1.0], [0.0]]]


def test_sampling_is_uniform_over_the_present_ids():
    present = torch.tensor([[False, True, False, True, True]])
    uniforms = (torch.arange(3000).view(1, -1) + 0.5) / 3000
    ids = sample_regions(present, uniforms)
    assert ids.unique().tolist() == [1, 3, 4]
    assert torch.bincount(ids[0]).tolist() == [0, 1000, 0, 1000, 1000]


def test_sampling_stays_in_range_at_the_ends():
    present = torch.tensor([[True] * 256])
    top = torch.tensor([[1 - 2 ** -24, 0.0]])
    assert sample_regions(present, top).tolist() == [[255, 0]]


@pytest.mark.parametrize('hard', [True, False])
def test_pooling_equals_a_loop(hard):
    mask, features = label_map(), torch.randn(3, 5, 4, 4, dtype=torch.float64)
    counts = cell_counts(mask, (4, 4), 11)
    ids = torch.tensor([[0, 3, 3], [1, 2, 10], [5, 6, 7]])
    pooled = pool_regions(features, region_weights(counts, ids, hard=hard))
    for b in range(3):
        for r in range(3):
            area, total = 0.0, torch.zeros(5, dtype=torch.float64)
            for cell in range(16):
                share = (float(counts[b, cell].argmax() == ids[b, r]) if hard
                         else float(counts[b, cell, ids[b, r]]) / float(counts[b, cell].sum()))
                area += share
                total += share * features[b, :, cell // 4, cell % 4]
            expected = total / area if area else total
            torch.testing.assert_close(pooled[b, r], expected, atol=1e-6, rtol=1e-6)
