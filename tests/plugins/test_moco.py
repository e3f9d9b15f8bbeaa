"""InfoNCE against a loop and an independent form; the queue, the key encoder and shuffled BN."""
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from densessl.errors import UsageError
from densessl.method import View
from densessl_plugins.moco import info_nce
from densessl_plugins.moco.moco import MoCo, shuffle


def loop(query, key, queue, temperature):
    total = 0
    for q, k in zip(query, key, strict=True):
        q, k = q / q.norm(), k / k.norm()
        scores = [math.exp(q @ c / temperature) for c in (k, *queue)]
        total -= math.log(scores[0] / sum(scores))
    return total / len(query)


def independent(query, key, queue, temperature):
    positive = F.cosine_similarity(query, key) / temperature
    negative = torch.einsum('bd,qd->bq', F.normalize(query), queue) / temperature
    return (torch.logaddexp(positive, negative.logsumexp(1)) - positive).mean()


@pytest.mark.parametrize('temperature', [0.07, 0.2])
def test_equals_the_paper(temperature):
    torch.manual_seed(0)
    query, key = (torch.randn(4, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    queue = F.normalize(torch.randn(16, 8, dtype=torch.float64))
    value = info_nce(query, key, queue, temperature)
    assert value.item() == pytest.approx(loop(query.detach(), key.detach(), queue, temperature))
    expected = independent(query, key, queue, temperature)
    torch.testing.assert_close(value, expected)
    for a, b in zip(torch.autograd.grad(value, (query, key)),
                    torch.autograd.grad(expected, (query, key)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def build(**kwargs):
    torch.manual_seed(0)
    method = MoCo(backbone=dict(type='torchvision.resnet18'), projection=8, queue=10, **kwargs)
    method.init_weights()
    return method.train()


def views(samples=4):
    g = torch.Generator().manual_seed(1)
    return [View(image=torch.randn(samples, 3, 64, 64, generator=g)) for _ in range(2)]


def test_queue_is_normalized_noise_and_takes_keys_after_the_step():
    method = build()
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(10))
    before = method.queue.clone()
    for step in range(3):   # 12 keys into 10 places: the two oldest are overwritten
        method.loss(views())
        assert torch.equal(method.queue, before), 'the loss must not change the queue'
        keys = method.new_keys[0]
        method.after_step(step, 10)
        places = [(4 * step + i) % 10 for i in range(4)]
        torch.testing.assert_close(method.queue[places], keys)
        before = method.queue.clone()
    assert method.oldest == 2 and method.new_keys == []


def test_key_encoder_moves_by_its_momentum_and_keeps_its_statistics():
    method = build(momentum=0.9)
    theta = method.target_backbone.conv1.weight.clone()
    method.loss(views())
    assert torch.equal(method.target_backbone.conv1.weight, theta)
    with torch.no_grad():
        method.backbone.conv1.weight.add_(1)
    running = method.target_backbone.bn1.running_mean.clone()
    method.after_step(0, 10)
    torch.testing.assert_close(method.target_backbone.conv1.weight, theta + 0.1)
    assert torch.equal(method.target_backbone.bn1.running_mean, running)


def test_shuffle_is_undone():
    x = torch.arange(8.0).view(8, 1)
    torch.manual_seed(3)
    shuffled, undo = shuffle(x)
    assert not torch.equal(shuffled, x) and torch.equal(shuffled[undo], x)


def test_groups_normalize_apart():
    """With bn_groups, samples of one group do not see those of another, as on separate GPUs."""
    method, (view, _) = build(bn_groups=2), views()
    together = method.encode(view.image, method.backbone, method.projector)
    alone = build().encode(view.image[2:], method.backbone, method.projector)
    torch.testing.assert_close(together[2:], alone)


def test_heads_of_both_versions():
    assert isinstance(build(version=1).projector, torch.nn.Linear)
    head = build(version=2).projector
    assert [type(m).__name__ for m in head] == ['Linear', 'ReLU', 'Linear']
    assert all(m.bias is not None for m in (head[0], head[2]))
    with pytest.raises(UsageError, match='version 3'):
        build(version=3)
