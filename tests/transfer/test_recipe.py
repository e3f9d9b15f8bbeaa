"""The recipe says what it changes, changes nothing else, and each line can be switched off."""
import pytest
from mmengine import ConfigDict

from densessl.bounds import parameters_of
from densessl.errors import UsageError
from densessl.transfer.recipe import (
    LINES,
    Recipe,
    clear_pretrained,
    freeze_stages,
    match_input,
    train_norm,
    unfreeze,
)


def test_nothing_is_frozen():
    backbone = ConfigDict(type='R', frozen_stages=1)
    assert unfreeze(backbone, {'frozen_stages': -1, 'norm_eval': True}) == [
        'backbone.frozen_stages: 1 → -1 (nothing frozen)',
        'backbone.norm_eval: True → False (BN statistics follow the new images)']
    assert backbone == dict(type='R', frozen_stages=-1, norm_eval=False)
    assert unfreeze(backbone, {'frozen_stages': -1, 'norm_eval': True}) == []
    assert unfreeze(ConfigDict(type='S'), {'depths': ()}) == []   # it has no such arguments


@pytest.mark.parametrize(('distributed', 'kind'), [(False, 'BN'), (True, 'SyncBN')])
def test_norms_are_trained_and_fit_the_number_of_devices(distributed, kind):
    other = 'BN' if distributed else 'SyncBN'
    model = ConfigDict(backbone=dict(norm_cfg=dict(type=other, requires_grad=False)),
                       heads=[dict(norm_cfg=dict(type=other)), dict(norm_cfg=dict(type='GN'))])
    lines = train_norm(model, {}, distributed)
    assert model.backbone.norm_cfg == dict(type=kind, requires_grad=True)
    assert [head.norm_cfg.type for head in model.heads] == [kind, 'GN']
    assert f'{other} → {kind} at 2 places' in lines[0] and 'at 1 places' in lines[1]
    assert train_norm(model, {}, distributed) == []


def test_a_backbones_default_norm_is_synchronized_too():
    model = ConfigDict(backbone=dict(type='R'))
    train_norm(model, {'norm_cfg': dict(type='BN', requires_grad=True)}, distributed=True)
    assert model.backbone.norm_cfg == dict(type='SyncBN', requires_grad=True)


def test_input_follows_the_pretraining():
    own = ConfigDict(mean=[1, 2, 3], std=[4.0, 5.0, 6.0], bgr_to_rgb=False)
    recipe = Recipe(mean=(1.0, 2.0, 3.0), std=(7.0, 8.0, 9.0), channel_order='RGB')
    lines = match_input(own, recipe, 'BGR')
    assert own == dict(mean=[1, 2, 3], std=[7.0, 8.0, 9.0], bgr_to_rgb=True)
    assert [line.split(':')[0] for line in lines] == [
        'data_preprocessor.std', 'data_preprocessor.bgr_to_rgb']
    assert match_input(own, recipe, 'BGR') == []
    match_input(own, Recipe((1, 2, 3), (7, 8, 9), 'BGR'), 'BGR')
    assert own.bgr_to_rgb is False
    assert match_input(own, Recipe(), 'BGR') == []   # nothing was pretrained


def test_no_config_brings_weights_of_its_own():
    cfg = ConfigDict(load_from='https://some/where.pth', model=dict(
        pretrained='open://r50', backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='u')),
        head=dict(init_cfg=dict(type='Normal', std=0.01))))
    lines = clear_pretrained(cfg)
    assert len(lines) == 3 and all('→' in line for line in lines)
    assert cfg.load_from is None and cfg.model.pretrained is None
    assert 'init_cfg' not in cfg.model.backbone and 'init_cfg' in cfg.model.head


def test_arguments_behind_kwargs_are_found():
    class Base:
        def __init__(self, depth, frozen_stages=1): ...

    class Derived(Base):
        def __init__(self, width=2, **kwargs): ...

    found = parameters_of(Derived)
    assert found['frozen_stages'] == 1 and found['width'] == 2 and '**' not in found


def test_an_unknown_line_is_named():
    with pytest.raises(UsageError, match="did you mean 'frozen'"):
        Recipe(keep=frozenset({'frozn'}))


def test_each_line_says_what_it_cost_others_and_how_it_is_left_out():
    recipe = Recipe()
    for name, line in LINES.items():
        change, why = recipe.priced(name, ['a: 1 → 2'])
        assert change == 'a: 1 → 2' and line.cost in why and f'--keep {name}' in why
        assert recipe.priced(name, []) == []       # no price where nothing was changed
    kept, = Recipe(keep=frozenset({'stem'})).kept()
    assert LINES['stem'].keeps in kept and LINES['stem'].cost in kept


@pytest.mark.parametrize(('stages', 'words'), [
    (0, 'the stem stay'), (1, 'the stem and stage 1'), (3, 'the stem and stages 1–3')])
def test_stages_are_frozen_from_the_stem_on(stages, words):
    backbone = ConfigDict(type='R')
    line, = freeze_stages(backbone, {'frozen_stages': -1, 'num_stages': 4}, stages)
    assert backbone.frozen_stages == stages and words in line


def test_what_cannot_be_frozen_is_refused():
    for parameters, number in (({'num_stages': 4}, 4), ({'depths': (2, 2, 6)}, 3)):
        with pytest.raises(UsageError, match=f'has {number} stages; give 0'):
            freeze_stages(ConfigDict(type='R'), parameters, 5)
    with pytest.raises(UsageError, match='must be 0'):
        Recipe(freeze=-1)
    with pytest.raises(UsageError, match='contradict each other'):
        Recipe(freeze=1, keep=frozenset({'frozen'}))
