"""Every published config builds its full-size model and optimizer; rates, momenta and parameter
groups are what the papers and their code say."""
from __future__ import annotations

import ast
import math

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from densessl.config import find_config, load_config
from densessl.ema import cosine_tau
from densessl.planning.config_check import check_config
from densessl.planning.plan import choose_row, make_plan
from densessl.registry import METHODS

IMAGENET = 1_281_167
COCO = 118_287
# config: epochs, peak rate, weight decay, warm-up epochs, tau_base or m, negatives an anchor
PUBLISHED = {
    ('simclr_r50', 1000): (4.8, 1e-6, 10, None, 8190),
    ('moco_v1_r50', 200): (0.03, 1e-4, 0, 0.999, 65536),
    ('moco_v2_r50', 200): (0.03, 1e-4, 0, 0.999, 65536),
    ('moco_v2_r50', 800): (0.03, 1e-4, 0, 0.999, 65536),
    ('byol_r50', 40): (0.45 * 16, 1e-6, 10, 0.97, 0),
    ('byol_r50', 100): (0.45 * 16, 1e-6, 10, 0.99, 0),
    ('byol_r50', 300): (0.3 * 16, 1e-6, 10, 0.99, 0),
    ('byol_r50', 1000): (3.2, 1.5e-6, 10, 0.996, 0),
    ('detcon_r50', 100): (3.2, 1.5e-6, 1, 0.996, 2 * 16 * 4096 - 2),
    ('detcon_r50', 200): (3.2, 1.5e-6, 2, 0.996, 2 * 16 * 4096 - 2),
    ('detcon_r50', 300): (3.2, 1.5e-6, 3, 0.996, 2 * 16 * 4096 - 2),
    ('detcon_r50', 1000): (3.2, 1.5e-6, 10, 0.996, 2 * 16 * 4096 - 2),
    ('detcon_s_r50', 1000): (4.8, 1e-6, 10, None, 2 * 16 * 4096 - 2),
    ('supervised_r50', 90): (0.1, 1e-4, 0, None, None),
    ('rotation_r50', 70): (0.1 * 512 / 256, 5e-4, 5, None, None),     # 128 images × 4
    ('rotation_r50', 105): (0.1 * 512 / 256, 5e-4, 0, None, None),
    ('relative_location_r50', 70): (0.2, 1e-4, 5, None, None),
    ('jigsaw_r50', 105): (0.1, 1e-4, 5, None, None),
    ('cpc_r50', 200): (2e-4, 0, 0, None, None),
}
PRETEXT = {   # config: parameters of the heads at full size
    'rotation_r50': 2048 * 4 + 4,
    'relative_location_r50': (4096 * 4096 + 4096) + 2 * 4096 + (4096 * 8 + 8),
    'jigsaw_r50': (2048 * 1000 + 1000) + 2 * 1000 + (9000 * 2000 + 2000),
    'cpc_r50': 5 * ((2048 + 1) * 256 + (3 * 256 + 1) * 256 + (2 * 256 + 1) * 256
                    + (256 + 1) * 2048) + 6 * (2048 + 1) * 64,
}
BUILT = sorted({name for name, _ in PUBLISHED} - set(PRETEXT))


@pytest.mark.parametrize('name, epochs', PUBLISHED)
def test_published_values(name, epochs):
    rate, decay, warmup, momentum, _ = PUBLISHED[name, epochs]
    cfg = load_config(name)
    check_config(cfg, name)
    assert choose_row(cfg, epochs) == epochs
    plan = make_plan(cfg, epochs=epochs, images=IMAGENET, processes=8)
    assert plan.notes == ()
    assert plan.lr == pytest.approx(rate)
    assert plan.warmup_steps == warmup * IMAGENET // cfg.global_batch
    assert cfg.optim_wrapper.optimizer.weight_decay == decay
    assert cfg.model.get('tau_base', cfg.model.get('momentum')) == momentum


@pytest.mark.parametrize('name, rate', [('detcon_r50', 3.2), ('detcon_s_r50', 4.8)])
def test_on_coco_the_recipe_is_imagenets(name, rate):
    """Section 4 of the paper: 1000 epochs of train2017, a tenth of the steps."""
    plan = make_plan(load_config(name), epochs=1000, images=COCO, processes=8)
    assert (plan.lr, plan.steps) == (pytest.approx(rate), 1000 * COCO // 4096)
    assert plan.warmup_steps == 10 * COCO // 4096


@pytest.mark.parametrize('name', ['simclr_r50', 'byol_r50', 'detcon_r50', 'detcon_s_r50'])
def test_rates_at_the_corners(name):
    cfg = load_config(name)
    plan = make_plan(cfg, epochs=choose_row(cfg, None), images=IMAGENET, processes=8)
    w, k = plan.warmup_steps, plan.steps
    half = w + (k - w) // 2
    expected = {0: 0, 1: 1 / w, w: 1, half: 0.5 * (1 + math.cos(math.pi * (half - w) / (k - w))),
                k - 1: 0.5 * (1 + math.cos(math.pi * (k - 1 - w) / (k - w)))}
    for step, factor in expected.items():
        assert plan.factor(step) == pytest.approx(factor, abs=1e-12)


def test_moco_rates_change_by_the_epoch():
    for name, factors in (('moco_v1_r50', {0: 1, 119: 1, 120: 0.1, 159: 0.1, 160: 0.01, 199: 0.01}),
                          ('moco_v2_r50', {e: 0.5 * (1 + math.cos(math.pi * e / 200))
                                           for e in (0, 1, 100, 199)})):
        cfg = load_config(name)
        plan = make_plan(cfg, epochs=200, images=IMAGENET, processes=8)
        for epoch, factor in factors.items():
            step = math.ceil(epoch * plan.steps / 200) + 3
            assert plan.factor(step) == pytest.approx(factor, rel=1e-3), (name, epoch)


@pytest.mark.parametrize('base', [0.99, 0.996])
def test_target_momentum_at_the_corners(base):
    k = 312_784
    for step, cos in ((0, 1), (1, math.cos(math.pi / k)), (k // 2, 0),
                      (k - 1, math.cos(math.pi * (k - 1) / k))):
        assert cosine_tau(step, k, base) == pytest.approx(1 - (1 - base) * (cos + 1) / 2, abs=1e-12)


@pytest.mark.parametrize('name', BUILT)
def test_full_size_model_and_parameter_groups(name):
    """ResNet-50 has 53 convolutions and 53 batch norms; the heads come on top."""
    cfg = load_config(name)
    plan = make_plan(cfg, epochs=cfg.epochs, images=IMAGENET, processes=8)
    cfg.optim_wrapper.optimizer.lr = plan.lr
    method = METHODS.build(cfg.model.to_dict())
    assert method.negatives(4096) == next(v[4] for (n, _), v in PUBLISHED.items() if n == name)
    groups = build_optim_wrapper(method, cfg.optim_wrapper.to_dict()).optimizer.param_groups
    names = {id(p): n for n, p in method.named_parameters()}
    if 'constructor' not in cfg.optim_wrapper:   # SGD: weight decay on everything
        given = [names[id(p)] for g in groups for p in g['params'] if p.requires_grad]
        trained = [n for n, p in method.named_parameters() if p.requires_grad]
        assert sorted(given) == sorted(trained)
        assert {g['weight_decay'] for g in groups} == {1e-4}
        return
    adapted, excluded = ([names[id(p)] for p in g['params']] for g in groups)
    assert sum(n.startswith('backbone.') for n in adapted) == 53
    assert sum(n.startswith('backbone.') for n in excluded) == 2 * 53
    heads = {'simclr': (2, 3), 'detcon_s': (2, 3), 'byol': (4, 6), 'detcon': (4, 6)}[cfg.model.type]
    assert (len(adapted) - 53, len(excluded) - 106) == heads
    assert all(n.endswith('.weight') for n in adapted)
    assert groups[1]['weight_decay'] == 0 and not groups[1]['adapt'] and groups[0]['adapt']
    assert groups[0]['lr_in_momentum'] == (cfg.model.type in ('simclr', 'detcon_s'))
    assert not any(n.startswith('target_') for n in adapted + excluded)


@pytest.mark.parametrize('name', PRETEXT)
def test_full_size_heads_of_the_pretext_tasks(name, monkeypatch):
    from densessl_plugins.pretext import permutations
    monkeypatch.setattr(permutations, 'far_apart',     # their choice is tested where it is made
                        lambda tiles, number: np.zeros((number, tiles), np.uint8))
    monkeypatch.setattr(permutations, 'VERSION', 'test')
    cfg = load_config(name)
    cfg.optim_wrapper.optimizer.lr = 1.0
    method = METHODS.build(cfg.model.to_dict())
    heads = sum(p.numel() for n, p in method.named_parameters() if not n.startswith('backbone.'))
    assert heads == PRETEXT[name]
    groups = build_optim_wrapper(method, cfg.optim_wrapper.to_dict()).optimizer.param_groups
    decays = {id(p): g['weight_decay'] for g in groups for p in g['params']}
    expected = {'rotation_r50': lambda n, p: 5e-4,
                'relative_location_r50': lambda n, p: 5e-4 if n.startswith('classifier') else 1e-4,
                'jigsaw_r50': lambda n, p: 0 if is_norm(method, n) else 1e-4,
                'cpc_r50': lambda n, p: 0}[name]
    for n, p in method.named_parameters():
        assert decays[id(p)] == pytest.approx(expected(n, p)), n
    assert {g.get('nesterov', False) for g in groups} == {name == 'rotation_r50'}


def is_norm(method, name):
    return isinstance(method.get_submodule(name.rpartition('.')[0]),
                      (nn.modules.batchnorm._BatchNorm, nn.GroupNorm))


@pytest.mark.parametrize('name, epochs, factors', [
    ('rotation_r50', 105, {29: 1, 30: 0.1, 60: 0.01, 90: 1e-3, 99: 1e-3, 100: 1e-4}),
    ('supervised_r50', 90, {29: 1, 30: 0.1, 59: 0.1, 60: 0.01}),
    ('rotation_r50', 70, {29: 1, 30: 0.1, 49: 0.1, 50: 0.01}),
    ('relative_location_r50', 70, {6: 1, 29: 1, 30: 0.1, 50: 0.01}),
    ('jigsaw_r50', 105, {6: 1, 29: 1, 30: 0.1, 60: 0.01, 90: 1e-3, 100: 1e-4})])
def test_rates_fall_at_their_epochs(name, epochs, factors):
    cfg = load_config(name)
    plan = make_plan(cfg, epochs=choose_row(cfg, epochs), images=IMAGENET, processes=8)
    for epoch, factor in factors.items():
        step = math.ceil(epoch * plan.steps / epochs) + 3
        assert plan.factor(step) == pytest.approx(factor, rel=1e-3), epoch


@pytest.mark.parametrize('name, zero', [
    ('simclr_r50', True), ('byol_r50', True), ('detcon_r50', True), ('detcon_s_r50', True),
    ('moco_v1_r50', False), ('moco_v2_r50', False),
    ('supervised_r50', False)])
def test_last_gammas_start_where_the_release_starts_them(name, zero):
    """The last γ of each residual block, in the online network and in a target that starts from
    weights of its own (haiku's BlockV1 and google-research/simclr start them at 0)."""
    cfg = load_config(name)
    method = METHODS.build(cfg.model.to_dict())
    method.init_weights()
    networks = [method.backbone]
    if cfg.model.get('target_init') == 'fresh':
        networks.append(method.target_backbone)
    for network in networks:
        gammas = torch.stack([block.bn3.weight.sum() / len(block.bn3.weight)
                              for stage in (network.layer1, network.layer2, network.layer3,
                                            network.layer4) for block in stage])
        assert len(gammas) == 16
        assert (gammas == (0 if zero else 1)).all()


@pytest.mark.parametrize('name', sorted({name for name, _ in PUBLISHED}))
def test_every_published_config_says_where_it_differs(name):
    assert 'Differs from the release' in ast.get_docstring(ast.parse(find_config(name).read_text()))
