"""The figures of a step against what they are by definition."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densessl.method import Compared
from densessl.watch.health import HealthHook, ema_distance, of_compared
from densessl_plugins.detcon.loss import detcon_chance, detcon_nce
from densessl_plugins.moco.moco import info_nce
from densessl_plugins.simclr.simclr import nt_xent


def figures(*args, **kwargs):
    return {name: float(value) for name, value in of_compared(Compared(*args, **kwargs)).items()}


def test_pairs_that_agree_and_images_that_are_apart():
    q = torch.eye(4)
    found = figures(q, 3 * q)
    assert found['positive_similarity'] == pytest.approx(1) and found['alignment'] == 0
    assert found['negative_similarity'] == 0 and found['rank_projections'] == pytest.approx(4)
    assert found['uniformity'] == pytest.approx(-4)         # ‖x − y‖² = 2
    assert 'anchors_with_positive' not in found


def test_constant_projections():
    found = figures(torch.ones(6, 8), torch.ones(6, 8))
    assert found['negative_similarity'] == pytest.approx(1)
    assert found['rank_projections'] == pytest.approx(1)
    assert found['uniformity'] == pytest.approx(0, abs=1e-5)


def test_regions_against_a_loop():
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(5, 3, 7, generator=g), torch.randn(5, 3, 7, generator=g)
    ids, other = (torch.randint(0, 4, (5, 3), generator=g) for _ in range(2))
    positive, negative, anchors = [], [], []
    for b in range(5):
        for r in range(3):
            anchors.append(False)
            for c in range(5):
                for s in range(3):
                    cosine = float(F.cosine_similarity(q[b, r], k[c, s], dim=0))
                    if b != c:
                        negative.append(cosine)
                    elif ids[b, r] == other[b, s]:
                        positive.append(cosine)
                        anchors[-1] = True
    found = figures(q, k, ids=(ids, other))
    assert found['positive_similarity'] == pytest.approx(sum(positive) / len(positive), abs=1e-5)
    assert found['negative_similarity'] == pytest.approx(sum(negative) / len(negative), abs=1e-5)
    assert found['alignment'] == pytest.approx(2 - 2 * sum(positive) / len(positive), abs=1e-5)
    assert found['anchors_with_positive'] == pytest.approx(sum(anchors) / len(anchors))


def test_negatives_of_a_queue():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert figures(q, q, negatives=torch.tensor([[1.0, 0.0]]))['negative_similarity'] == 0.5


def test_a_large_batch_is_looked_at_in_part():
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2000, 4, generator=g)
    assert figures(q, q) == figures(q[:512], q[:512])


def test_trivial_losses_are_those_of_features_that_tell_nothing_apart():
    ones = torch.ones(5, 8)
    assert float(nt_xent(ones, ones, 0.1)) == pytest.approx(math.log(9), rel=1e-5)
    queue = F.normalize(torch.ones(30, 8), dim=1)
    assert float(info_nce(ones, ones, queue, 0.2)) == pytest.approx(math.log(31), rel=1e-5)
    g = torch.Generator().manual_seed(0)
    ids, other = (torch.randint(0, 4, (5, 3), generator=g) for _ in range(2))
    same = torch.ones(5, 3, 8)
    for local in (True, False):
        loss = detcon_nce(same, same, same, same, ids, other, 0.1, local)
        assert float(detcon_chance(ids, other, local)) == pytest.approx(float(loss), rel=1e-5)


class Pair(nn.Module):
    def __init__(self, online, target):
        super().__init__()
        self.backbone, self.target_backbone = online, target


def test_the_distance_of_a_target():
    online, target = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(online.weight, 3.0), nn.init.constant_(online.bias, 4.0)
    nn.init.constant_(target.weight, 3.0), nn.init.constant_(target.bias, 2.0)
    assert float(ema_distance(Pair(online, target))) == pytest.approx(2 / 5)
    assert ema_distance(Pair(online, nn.Linear(2, 1))) is None, 'of another shape'
    assert ema_distance(nn.Linear(1, 1)) is None


def test_an_update_and_its_gradient_are_measured():
    weight, frozen = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.ones(1, 1))
    optimizer = torch.optim.SGD([weight, frozen.requires_grad_(False)], lr=0.1)
    hook = HealthHook(interval=1)
    hook.look_update = True
    optimizer.register_step_pre_hook(hook._before_update)
    optimizer.register_step_post_hook(hook._after_update)
    (weight * torch.tensor([[6.0, 8.0]])).sum().backward()      # a gradient of length 10
    optimizer.step()
    assert float(hook.of_update['gradient']) == pytest.approx(10)
    assert float(hook.of_update['update']) == pytest.approx(0.1 * 10 / 5)
