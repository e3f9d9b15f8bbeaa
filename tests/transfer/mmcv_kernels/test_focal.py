import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import SigmoidFocalLoss, sigmoid_focal_loss, softmax_focal_loss

GAMMA, ALPHA = 1.5, 0.3
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def logits(scale=3.0):
    return (scale * torch.randn(6, 4, dtype=torch.float64)).requires_grad_()


def sigmoid_focal_by_autograd(x, target, weight):
    p, is_target = x.sigmoid(), F.one_hot(target, 5)[:, :4].bool()  # class 4 is background
    loss = torch.where(is_target, -ALPHA * (1 - p)**GAMMA * F.logsigmoid(x),
                       -(1 - ALPHA) * p**GAMMA * F.logsigmoid(-x))
    return loss if weight is None else loss * weight[target][:, None]


def softmax_focal_by_autograd(x, target, weight):
    log_p = x.log_softmax(1).gather(1, target[:, None]).squeeze(1)
    loss = -ALPHA * (1 - log_p.exp())**GAMMA * log_p
    return loss if weight is None else loss * weight[target]


@pytest.mark.parametrize('reduction', ['sum', 'mean', 'none'])
@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
def test_focal_losses_and_gradients_match_the_definition(kind, weight, reduction):
    loss, by_autograd = {'sigmoid': (sigmoid_focal_loss, sigmoid_focal_by_autograd),
                         'softmax': (softmax_focal_loss, softmax_focal_by_autograd)}[kind]
    x, target = logits(), torch.tensor([0, 1, 2, 3, 1, 0])
    expected = by_autograd(x, target, weight)
    computed = loss(x, target, GAMMA, ALPHA, weight, reduction)
    if reduction != 'none':
        expected = expected.sum() / (6 if reduction == 'mean' else 1)
    torch.testing.assert_close(computed, expected)
    if computed.dim() < 2 and reduction == 'none':
        return  # mmcv's backward cannot: it multiplies (N, C) by a gradient (N,)
    factor = torch.rand_like(expected)
    grads = [torch.autograd.grad(out, x, factor)[0] for out in (computed, expected)]
    torch.testing.assert_close(*grads)


def test_background_belongs_to_no_class_and_is_not_weighted():
    x, target = logits(), torch.tensor([4, 4, 1, 4, 0, 4])
    expected = sigmoid_focal_by_autograd(x, target, None)
    computed = sigmoid_focal_loss(x, target, GAMMA, ALPHA, None, 'none')
    torch.testing.assert_close(computed, expected)
    weighted = sigmoid_focal_loss(x, target, GAMMA, ALPHA, WEIGHT, 'none')
    factors = torch.tensor([1, 1, 2, 1, 0.5, 1], dtype=torch.float64)
    torch.testing.assert_close(weighted, expected * factors[:, None])


def test_softmax_focal_loss_ignores_negative_targets():
    x, target = logits(), torch.tensor([0, -1, 2, 3, -1, 0])
    loss = softmax_focal_loss(x, target, GAMMA, ALPHA, WEIGHT, 'none')
    assert (loss == 0).tolist() == [False, True, False, False, True, False]
    softmax_focal_loss(x, target, GAMMA, ALPHA, WEIGHT, 'sum').backward()
    assert (x.grad == 0).all(1).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_extreme_logits_stay_finite(loss, dtype, gamma):
    x = torch.tensor([[200.0, -200, 0], [-200, 200, 0]], dtype=dtype, requires_grad=True)
    value = loss(x, torch.tensor([0, 0]), gamma, 0.25, None, 'sum')
    assert value.dtype == dtype and value.isfinite()
    value.backward()
    assert x.grad.dtype == dtype and x.grad.isfinite().all()


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_focal_loss_of_nothing_is_zero(loss):
    x = torch.zeros(0, 4, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.long), GAMMA, ALPHA, None, 'sum')
    value.backward()
    assert value == 0 and x.grad.shape == (0, 4)


def test_layer_holds_its_weight():
    layer = SigmoidFocalLoss(GAMMA, ALPHA, weight=WEIGHT)
    x, target = logits(), torch.arange(6) % 4
    expected = sigmoid_focal_by_autograd(x, target, WEIGHT).sum() / 6
    torch.testing.assert_close(layer(x, target), expected)
