"""DetCon against a naive loop written from its definition."""
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from densessl.errors import UsageError
from densessl_plugins.detcon import detcon_nce, in_blocks
from densessl_plugins.detcon.detcon import DetConB


def naive(p1, p2, t1, t2, ids1, ids2, temperature=0.1, local_negatives=True):
    """One anchor at a time, one candidate at a time."""
    p1, p2, t1, t2 = (F.normalize(x, dim=-1) for x in (p1, p2, t1, t2))
    batch, regions = ids1.shape
    total = 0.0
    for q, own, other, ids, ids_other in ((p1, t1, t2, ids1, ids2), (p2, t2, t1, ids2, ids1)):
        for b in range(batch):
            for r in range(regions):
                candidates, positives = [], []
                for n in range(batch):
                    for s in range(regions):
                        logit = q[b, r] @ other[n, s] / temperature
                        same = n == b and ids_other[n, s] == ids[b, r]
                        if same:
                            positives.append(logit)
                        if same or n != b or local_negatives:
                            candidates.append(logit)
                for n in range(batch):
                    for s in range(regions):
                        same = n == b and ids[n, s] == ids[b, r]
                        if n != b or (local_negatives and not same):
                            candidates.append(q[b, r] @ own[n, s] / temperature)
                if positives:
                    log_z = torch.logsumexp(torch.stack(candidates), 0)
                    cross_entropy = sum(log_z - p for p in positives) / len(positives)
                    drawn = int((ids[b] == ids[b, r]).sum())
                    total = total + cross_entropy / drawn
    return total / (batch * regions)


def inputs(ids1, ids2, dim=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    ids1, ids2 = torch.tensor(ids1), torch.tensor(ids2)
    tensors = [torch.randn(*ids1.shape, dim, generator=g, dtype=torch.float64, requires_grad=True)
               for _ in range(4)]
    return (*tensors, ids1, ids2)


CASES = {
    'distinct': ([[0, 1, 2], [0, 1, 2]], [[0, 1, 2], [2, 1, 0]]),
    'repeated ids': ([[0, 0, 1, 1], [5, 5, 5, 5]], [[1, 0, 0, 2], [5, 5, 7, 5]]),
    'absent from a view': ([[0, 1, 2], [3, 4, 5]], [[0, 9, 9], [8, 4, 4]]),
    'one image': ([[0, 1, 1]], [[1, 1, 0]]),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('local_negatives', [True, False])
@pytest.mark.parametrize('block', [in_blocks.BLOCK, 1])   # 1: an image at a time
def test_equals_naive_loop(case, local_negatives, block, monkeypatch):
    monkeypatch.setattr(in_blocks, 'BLOCK', block)
    ours, theirs = inputs(*CASES[case]), inputs(*CASES[case])
    value = detcon_nce(*ours, temperature=0.3, local_negatives=local_negatives)
    expected = naive(*theirs, temperature=0.3, local_negatives=local_negatives)
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    value.backward()
    expected.backward()
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-6)


def test_no_shared_region_gives_zero_and_finite_gradients():
    arguments = inputs([[0, 1], [0, 1]], [[2, 3], [4, 4]])
    value = detcon_nce(*arguments)
    value.backward()
    assert value.item() == 0
    assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in arguments[:4])


def test_floor_is_the_logarithm_of_the_number_of_positives():
    """Every anchor has 4 positives that are alike; all else is opposite and far away."""
    ids = torch.zeros(1, 4, dtype=torch.long)
    same = torch.ones(1, 4, 8)
    value = detcon_nce(same, same, same, same, ids, ids, temperature=0.01)
    # weight 1/4 an anchor (its id was drawn 4 times), two orders
    torch.testing.assert_close(value, torch.tensor(2 * math.log(4) / 4))


def test_single_precision_agrees():
    arguments = inputs(*CASES['repeated ids'])
    value = detcon_nce(*(x.float() if x.is_floating_point() else x for x in arguments))
    torch.testing.assert_close(value.double(), naive(*arguments), atol=1e-5, rtol=1e-5)


def test_the_target_starts_fresh_as_released_or_as_a_copy():
    def build(**options):
        method = DetConB(backbone=dict(type='torchvision.resnet18'), projection=(16, 8), **options)
        method.init_weights()
        return method

    fresh, copy = build(), build(target_init='copy')
    for method, same in ((fresh, False), (copy, True)):
        assert torch.equal(method.target_backbone.conv1.weight,
                           method.backbone.conv1.weight) == same
        assert torch.equal(method.target_projector[0].weight, method.projector[0].weight) == same
        assert not any(p.requires_grad for p in method.target_backbone.parameters())
    with pytest.raises(UsageError, match="'fresh' or 'copy'"):
        build(target_init='zeros')
