"""CPC: who sees whom, InfoNCE against a loop, directions, and encoders without batch norm."""
from __future__ import annotations

import math

import pytest
import torch
from batches import SMALL

from densessl.errors import UsageError
from densessl.method import View
from densessl.registry import METHODS
from densessl_plugins.pretext.cpc import MaskedBlock, RowPredictor, as_grid

BACKBONE = dict(type='torchvision.resnet18', norm='layer')


def build(**kwargs):
    torch.manual_seed(0)
    method = METHODS.build(dict(type='cpc', **{'backbone': BACKBONE, **SMALL['cpc'], **kwargs}))
    method.init_weights()
    return method.train()


def views(samples=2, grid=3, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [View(image=torch.randn(samples, grid * grid, 3, 32, 32, generator=g))]


@pytest.mark.parametrize('row', range(5))
def test_the_context_sees_no_row_below(row):
    torch.manual_seed(0)
    context = RowPredictor(6, (1,), 4, 8, 5).context.double()
    z = torch.randn(2, 6, 5, 5, dtype=torch.double, requires_grad=True)
    gradient, = torch.autograd.grad(context(z)[:, :, row].pow(2).sum(), z)
    seen = gradient.abs().sum((0, 1, 3)) > 0            # by row
    assert seen.tolist() == [other <= row for other in range(5)]


def test_one_block_reaches_one_row_up():
    torch.manual_seed(0)
    z = torch.randn(1, 3, 4, 5, requires_grad=True)
    gradient, = torch.autograd.grad(MaskedBlock(3, 8)(z)[0, :, 2, 2].sum(), z)
    seen = gradient[0].abs().sum(0) > 0
    assert seen.nonzero().tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]


def test_info_nce_equals_a_loop():
    """For each patch, each step and each image: log of e^f(positive) / Σ e^f(all patches)."""
    method, batch = build(steps=(1, 2), scale=0.3), views(3, 3)
    out = method.loss(batch)
    with torch.no_grad():
        encoded = [[method.backbone(patch[None])[-1].mean((2, 3))[0] for patch in image]
                   for image in batch[0].image]                             # [b][t] (C,)
        z = torch.stack([torch.stack(row) for row in encoded])              # (B, 9, C)
        predictor, = method.predictors
        grid = z.transpose(1, 2).reshape(3, -1, 3, 3)
        context, target = predictor.context(grid).relu(), predictor.target(grid)
        per_step, hits = [], []
        for k, predict in zip((1, 2), predictor.maps, strict=True):
            losses, right = [], []
            for b in range(3):
                for i in range(3 - k):
                    for j in range(3):
                        said = predict(context)[b, :, i, j]
                        f = {(o, r, c): 0.3 * float(said @ target[o, :, r, c])
                             for o in range(3) for r in range(3) for c in range(3)}
                        losses.append(math.log(sum(math.exp(v) for v in f.values()))
                                      - f[b, i + k, j])
                        right.append(max(f, key=f.get) == (b, i + k, j))
            per_step.append(sum(losses) / len(losses))
            hits.append(sum(right) / len(right))
    assert out['loss'].item() == pytest.approx(sum(per_step) / 2, rel=1e-4)
    assert out['accuracy'].item() == pytest.approx(sum(hits) / 2)


def test_four_directions_are_one_direction_of_the_turned_grid():
    method, batch = build(directions=4), views()
    whole = method.loss(batch)['loss']
    single = []
    for turn, predictor in enumerate(method.predictors):
        grid = batch[0].image.unflatten(1, (3, 3)).rot90(turn, (1, 2)).flatten(1, 2)
        one = build(directions=1)
        one.backbone.load_state_dict(method.backbone.state_dict())
        one.predictors[0].load_state_dict(predictor.state_dict())
        single.append(one.loss([View(image=grid)])['loss'])     # the patches stay upright
    torch.testing.assert_close(whole, torch.stack(single).mean())


def test_blank_images_leave_the_loss_at_chance():
    method = build()
    out = method.loss([View(image=torch.full((2, 9, 3, 32, 32), 0.5))])
    # all rows but the first look alike to the context; the candidates are all the same
    assert out['loss'].item() == pytest.approx(math.log(18), abs=1e-4)
    assert out['accuracy'] <= 1 / 6


@pytest.mark.parametrize('norm', ['layer', 'group'])
def test_encoders_without_batch_norm_see_a_patch_alone(norm):
    method = build(backbone=dict(type='torchvision.resnet18', norm=norm))
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in method.modules())
    image = views(2)[0].image.flatten(0, 1)
    with torch.no_grad():
        together, alone = method.backbone(image)[-1], method.backbone(image[4:5])[-1]
    torch.testing.assert_close(together[4:5], alone, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match='at most 2 can be predicted'):
        build(steps=(1, 3)).loss(views(1, 3))
    with pytest.raises(UsageError, match='do not form a square grid'):
        as_grid(torch.zeros(1, 8, 4))
    with pytest.raises(UsageError, match=r'directions must be .* from 1 to 4, not 5'):
        build(directions=5)
    with pytest.raises(UsageError, match='at least one row'):
        build(steps=())
