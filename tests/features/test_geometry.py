"""Figures of features against their closed forms."""
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.special import hyp0f1

from densessl.features.geometry import (
    alignment,
    cells_of,
    effective_rank,
    mean_regions,
    spread,
    uniformity,
)


def of_rank(k, n=40, d=24):
    """(n, d) with k equal singular values and no other."""
    g = torch.Generator().manual_seed(k)
    left, right = (torch.linalg.qr(torch.randn(size, k, generator=g, dtype=torch.float64))[0]
                   for size in (n, d))
    return (3 * left @ right.T).float()


@pytest.mark.parametrize('k', [1, 2, 7, 24])
@pytest.mark.parametrize('turned', [False, True])
def test_k_equal_singular_values_are_of_rank_k(k, turned):
    features = of_rank(k)
    assert float(effective_rank(features.T if turned else features)) == pytest.approx(k, rel=1e-4)


def test_rank_of_known_singular_values():
    features = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    p = (0.75, 0.25)
    entropy = -sum(x * math.log(x) for x in p)
    assert float(effective_rank(features)) == pytest.approx(math.exp(entropy))


def test_constant_features_have_rank_1_and_dead_ones_no_more():
    assert float(effective_rank(torch.ones(30, 8))) == pytest.approx(1)
    assert float(effective_rank(torch.zeros(30, 8))) == pytest.approx(1)


def test_isotropic_features_fill_their_space():
    g = torch.Generator().manual_seed(0)
    assert float(effective_rank(torch.randn(20000, 16, generator=g))) == pytest.approx(16, rel=1e-2)
    # a square Gaussian matrix: its singular values follow the quarter circle law, of which
    # exp(entropy) / n is exp(−∫ x log x) with x of mean 1
    x = torch.linspace(0, 2, 200001, dtype=torch.float64)[1:]
    density = (4 - x ** 2).clamp(min=0).sqrt() / math.pi
    mean = torch.trapezoid(x * density, x)
    entropy = torch.trapezoid(density * (x / mean) * (x / mean).log(), x)
    assert float(effective_rank(torch.randn(400, 400, generator=g))) / 400 == pytest.approx(
        float((-entropy).exp()), rel=0.01)


def test_spread_is_what_the_mean_leaves():
    assert float(spread(torch.ones(4, 8, 2, 2))) < 1e-3
    axes = torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)
    assert float(spread(axes)) == pytest.approx(math.sqrt(1 - 1 / 4))


def test_uniformity_of_constant_and_of_evenly_spread_features():
    constant = F.normalize(torch.ones(10, 5), dim=1)
    assert float(uniformity(constant)) == pytest.approx(0, abs=1e-5)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])      # ‖x − y‖² = 4
    assert float(uniformity(opposite)) == pytest.approx(-8)
    # on a sphere of D dimensions E exp(4⟨x, y⟩) = ₀F₁(; D/2; 4), the generating function of a
    # coordinate of a uniform unit vector
    for d in (2, 8, 64):
        g = torch.Generator().manual_seed(d)
        features = F.normalize(torch.randn(3000, d, generator=g), dim=1)
        expected = -4 + math.log(hyp0f1(d / 2, 4.0))
        assert float(uniformity(features)) == pytest.approx(expected, abs=0.02)


def test_alignment_is_the_squared_distance_of_positives():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(alignment(x, x)) == 0
    assert float(alignment(x, -x)) == pytest.approx(4)
    assert float(alignment(x, x.flip(0))) == pytest.approx(2)
    positive = torch.tensor([[True, True], [False, False]])
    assert float(alignment(x, x, positive)) == pytest.approx((0 + 2) / 2)


def test_cells_are_taken_evenly_and_regions_are_counted():
    maps = torch.arange(2 * 3 * 4 * 5).float().view(2, 3, 4, 5)
    assert torch.equal(cells_of(maps, 1000), maps.permute(0, 2, 3, 1).reshape(-1, 3))
    few = cells_of(maps, 10)
    assert len(few) == 10 and torch.equal(few[1], maps[0, :, 0, 4])
    mask = torch.tensor([[[0, 0], [0, 0]], [[0, 1], [2, 2]]])
    assert float(mean_regions(mask, 3)) == 2
